"""Object stores: S3 and what speaks its language, Google's, and files of a web server. obstore, the extra `objects`,
does the work; nothing else imports it. Errors are an `OSError` without a credential in it. May import errors alone.
"""
