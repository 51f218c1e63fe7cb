"""The one package all notebooks share. Importing it loads nothing heavy: each module imports what
it needs.
"""
