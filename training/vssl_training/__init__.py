"""Training: objective, encoder, loop, recipes.

Imports core. Its rooms, each may import those after it: commands, attaching, loop, report, phases, judging, encoder,
objective and views and data, run, recipe.
"""
