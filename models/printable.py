"""What strangers name, such as files, made safe to print.

A file name may hold any byte but ``/`` and NUL: line feeds, and escape sequences that clear a screen
or set a window's title. Whatever comes from outside passes `printable` on its way into a message.
"""


def printable(text: object) -> str:
    """Return a text on one line, without the characters that a terminal takes for orders.

    These become U+FFFD, as do surrogates, which stand for the bytes of a name that is not UTF-8.
    """
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text)
    )
