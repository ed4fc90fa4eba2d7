"""The command `headrace`: starts the system, feeds it, shows it.

`main.py` puts the commands together; each other module is one command or what several share (`home`, `processes`,
`output`, `progress`). Two rules hold for all: with `--json` standard output carries JSON and nothing else (people's
text goes to standard error), and what can be expected to fail ends in a line that says what to do; a traceback is a
defect of ours.
"""
