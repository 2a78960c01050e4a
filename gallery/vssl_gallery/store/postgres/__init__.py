"""Galleries in PostgreSQL with pgvector: replicas, failover and backups that an operator knows already. May import
what all drivers share.

Everything lies in the schema `vssl`: a catalogue, and a table for each gallery (`tables`). Nothing from outside
becomes part of a statement: values are bound, names are ours or quoted by psycopg.
"""
