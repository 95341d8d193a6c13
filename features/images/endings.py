"""The endings of image files: what is looked for in a folder."""

ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".jp2", ".j2k"),
        *(".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".dcm"),
    )
)


def is_image_name(name: str) -> bool:
    """Return whether a file is an image by its name's ending, or by having none.

    >>> is_image_name("cats/A.JPG"), is_image_name("cats.v2/0001"), is_image_name("cats/notes.txt")
    (True, True, False)
    """
    dot = name.rfind(".")
    return dot <= name.rfind("/") or name[dot:].lower() in ENDINGS
