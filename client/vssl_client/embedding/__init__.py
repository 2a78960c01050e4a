"""Images through whatever embeds them: the contract, batches of bounded size, several at once, and the engine in this
process.

May import inputs, results and errors.
"""
