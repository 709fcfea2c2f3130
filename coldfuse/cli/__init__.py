"""The command `coldfuse`.

    main        the table of the commands, and from errors to one line and an exit status
    command     from a command's options to Typer, and to what does the work
    options/    what can be given to each command: frozen dataclasses, whose docstrings and fields are the help
    source      what users name federations and models by
    others      one module a user: what their commands do

Typer needs the options of every command at every start, so `options` imports nothing that takes long. What does the
work is imported when its command runs, and has all that it needs at its top: an extra that is missing is told there.
"""
