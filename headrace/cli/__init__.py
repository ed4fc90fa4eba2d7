"""The command `headrace`: starts the system, feeds it, shows it.

`main.py` puts the commands together; each other module is one command or what several share (`home`, `processes`,
`output`, `progress`). Two rules hold for all: with `--json` standard output carries JSON and nothing else (people's
text goes to standard error), and every failure ends in one line that says what to do, never in a traceback.
"""
