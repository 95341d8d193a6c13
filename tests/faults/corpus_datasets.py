"""Hostile and odd data sets: name -> what makes one in a folder and returns its word, and what has to come of it."""

import copy
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from corpus_arrays import arrays
from corpus_images import PIXELS, READ, REFUSED, saved
from PIL import Image

Make = Callable[[Path], str]
Case = tuple[str, Make, str]
PNG = saved(Image.fromarray(PIXELS), "PNG")


def datasets() -> Iterator[Case]:
    """Yield every case."""
    yield from _folders()
    yield from _zips()
    yield from _tables()
    yield from arrays()


def _write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)


def _folder(*names: str, then: Callable[[Path], object] = lambda folder: None) -> Make:
    def make(folder: Path) -> str:
        _write(folder / "pictures", *names)
        (folder / "pictures").mkdir(exist_ok=True)
        then(folder / "pictures")
        return f"folder:{folder / 'pictures'}"

    return make


def _folders() -> Iterator[Case]:
    two = ("ant/1.png", "bee/1.png")
    yield "folder of two classes", _folder(*two), READ
    for what, name in (
        ("line break", "ant\nbee"),
        ("HTML", "<script>alert(1)<"),
        ("quotes", 'it\'s "so"'),
        ("comma", "a,b;c"),
        ("formula", "=HYPERLINK(1)"),
        ("right-to-left mark", "a\u202eb"),
        ("emoji", "\U0001f41c"),
        ("combining letters", "e\u0301"),
        ("spaces", "  ant  "),
        ("percent", "%s%n%d{0}"),
        ("shell", "$(touch executed)`touch executed`"),
        ("backslash", "a\\b"),
        ("tab", "a\tb"),
        ("escape codes", "\x1b[31mred\x1b[0m"),
        ("200 letters", "x" * 200),
        ("dash", "-rf"),
    ):
        yield f"folder whose class has {what} in its name", _folder(f"{name}/1.png", "bee/1.png"), READ
        yield f"folder whose image has {what} in its name", _folder("ant/1.png", f"bee/{name}.png"), READ
    yield "folder that is empty", _folder(), REFUSED
    yield "folder of one class", _folder("ant/1.png"), REFUSED
    yield "folder without classes", _folder("1.png", "2.png"), REFUSED
    yield "folder of one split", _folder("test/ant/1.png", "test/bee/1.png"), REFUSED
    yield "folder that mixes splits and classes", _folder("train/ant/1.png", "cat/1.png"), REFUSED
    links: dict[str, tuple[str, str]] = {
        "a link out of the folder": ("ant/2.png", "/etc/passwd"),
        "a link to a folder outside": ("ant/etc", "/etc"),
        "a link to itself": ("ant/2.png", "2.png"),
        "a link to nothing": ("ant/2.png", "gone.png"),
        "a link up and out": ("ant/2.png", "../../../../etc/hostname"),
    }
    for what, (name, target) in links.items():
        link = lambda folder, name=name, target=target: (folder / name).symlink_to(target)  # noqa: E731
        yield f"folder with {what}", _folder(*two, then=link), REFUSED
    yield "folder with a link that loops", _folder(*two, then=lambda f: (f / "ant" / "again").symlink_to(f)), REFUSED
    inside = _folder(*two, then=lambda f: (f / "ant" / "2.png").symlink_to("1.png"))
    yield "folder with a link to an image inside", inside, READ
    yield "folder with a pipe", _folder(*two, then=lambda f: os.mkfifo(f / "ant" / "pipe.png")), READ
    raw = lambda f: (Path(os.fsdecode(os.fsencode(f) + b"/ant/\xff\xfe.png"))).write_bytes(PNG)  # noqa: E731
    yield "folder with a name that is not UTF-8", _folder(*two, then=raw), REFUSED
    yield from _layouts()
    yield "path that is not there", lambda folder: f"folder:{folder / 'gone'}", REFUSED
    yield "path with a NUL", lambda folder: f"folder:{folder}\0x", REFUSED
    yield "device in place of a folder", lambda folder: "folder:/dev/zero", REFUSED
    yield "word that is none", lambda folder: "imagenet; rm -rf", REFUSED


def _layouts() -> Iterator[Case]:
    """Yield folders as people have them."""
    two = ("ant/1.png", "bee/1.png")
    yield "folder with a run in it", _folder(*two, "runs/x/plot.png", then=_begun), READ
    yield "folder of classes that differ in case alone", _folder("Ant/1.png", "ant/1.png", "bee/1.png"), REFUSED
    yield "folder of classes in two Unicode forms", _folder("\u00e9/1.png", "e\u0301/1.png", "bee/1.png"), REFUSED
    yield "folder of parts with the same classes", _folder(*(f"{p}/{name}" for p in "pq" for name in two)), REFUSED
    yield "folder 30 levels too deep", _folder(*("x/" * 30 + name for name in two)), READ
    yield "folder of splits in classes", _folder("ant/train/1.png", "bee/train/1.png", "ant/test/1.png"), READ
    yield "folder with an image of a class called Icon and a carriage return", _folder(*two, "ant/Icon\r"), READ
    yield "folder with a carriage return in a class", _folder("a\rb/1.png", "bee/1.png"), READ
    yield "folder of a system's thumbnails", _folder(*two, "ant/@eaDir/1.png/thumb.jpg"), READ
    yield "folder with a text file in a class", _folder(*two, then=lambda f: (f / "ant/x.txt").write_text("x")), READ
    yield "folder with a text file that claims to be an image", _folder(*two, then=_text_as_image), REFUSED


def _begun(folder: Path) -> None:
    (folder / "runs/x/run.json").write_text("{}")


def _text_as_image(folder: Path) -> None:
    (folder / "ant/x.png").write_text("x")


def _zip(fill: Callable[[zipfile.ZipFile], object]) -> Make:
    def make(folder: Path) -> str:
        with zipfile.ZipFile(folder / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ant/1.png", PNG)
            archive.writestr("bee/1.png", PNG)
            fill(archive)
        return f"folder:{folder / 'pictures.zip'}"

    return make


def _changed(change: Callable[[bytes], bytes]) -> Make:
    def make(folder: Path) -> str:
        word = _zip(lambda archive: None)(folder)
        path = folder / "pictures.zip"
        path.write_bytes(change(path.read_bytes()))
        return word

    return make


def _link_member(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("ant/2.png")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(member, "/etc/passwd")


def _zips() -> Iterator[Case]:
    yield "zip of two classes", _zip(lambda archive: None), READ
    for name in ("/ant/2.png", "../ant/2.png", "ant/../../2.png", "C:/2.png", "ant\\..\\2.png", "//server/ant/2.png"):
        yield f"zip with the member {name}", _zip(lambda a, name=name: a.writestr(name, PNG)), REFUSED
    yield "zip with a link", _zip(_link_member), REFUSED
    yield "zip with an image that unpacks to 2 GB", _zip(_bomb), REFUSED
    yield "zip cut short", _changed(lambda data: data[: len(data) // 2]), REFUSED
    yield "zip without its directory", _changed(lambda data: data[:-30]), REFUSED
    yield "zip of zeros", _changed(lambda data: bytes(len(data))), REFUSED
    yield "zip whose first image is damaged", _changed(lambda data: data[:60] + b"\0" * 40 + data[100:]), REFUSED
    yield (
        "zip whose directory counts 65,000",
        _changed(lambda d: d[:-14] + struct.pack("<HH", 65000, 65000) + d[-10:]),
        READ,
    )
    yield "zip with an encrypted flag", _changed(_encrypted), REFUSED
    yield "zip with a member twice", _zip(_twice), REFUSED
    yield "zip whose members share their bytes", _zip(_shared), REFUSED
    for what, name in (("a line break", "ant/a\nb.png"), ("HTML", "ant/<img src=x onerror=alert(1)>.png")):
        yield f"zip with {what} in a name", _zip(lambda a, name=name: a.writestr(name, PNG)), READ
    yield "zip with a zip in it", _zip(lambda a: a.writestr("ant/2.zip", b"PK\x05\x06" + bytes(18))), READ
    yield "zip of 20,000 empty folders", _zip(lambda a: [a.writestr(f"x{i}/", b"") for i in range(20_000)]), READ
    yield from _zip_names()


def _zip_names() -> Iterator[Case]:
    """Yield zips with names that are not marked as UTF-8, in an encoding and in none."""
    for what, letters, expected in (
        ("GBK", "猫咪".encode("gbk"), READ),
        ("Shift JIS", "ねこ".encode("shift_jis"), READ),
        ("no encoding", b"\xb0 \xff\xb1 ", REFUSED),
        ("bytes that end in half a letter", "猫咪".encode("gbk")[:3] + b"\xff", REFUSED),
    ):
        place = "place".ljust(len(letters) + 4, "x")
        made = _zip(lambda archive, place=place: archive.writestr(f"{place}/1.png", PNG))
        yield f"zip with names in {what}", _replaced(made, place.encode(), letters.ljust(len(place), b"y")), expected
    climbing = _zip(lambda archive: archive.writestr("place/place/1.png", PNG))
    yield (
        "zip with names that climb, in another encoding",
        _replaced(climbing, b"place/place", b"\xc3\xa8/../x/y"),
        REFUSED,
    )


def _replaced(make: Make, old: bytes, new: bytes) -> Make:
    def made(folder: Path) -> str:
        word = make(folder)
        path = folder / "pictures.zip"
        path.write_bytes(path.read_bytes().replace(old, new))
        return word

    return made


def _twice(archive: zipfile.ZipFile) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr("ant/1.png", PNG)


def _shared(archive: zipfile.ZipFile) -> None:
    """List a member again under other names, as bombs of overlapping members do."""
    for number in range(50):
        again = copy.copy(archive.getinfo("ant/1.png"))
        again.filename = f"ant/again {number}.png"
        archive.filelist.append(again)


def _bomb(archive: zipfile.ZipFile) -> None:
    with archive.open("ant/2.png", "w", force_zip64=True) as member:
        for _ in range(2000):
            member.write(bytes(1_000_000))


def _encrypted(data: bytes) -> bytes:
    place = data.index(b"PK\x01\x02")
    return data[:6] + b"\x01" + data[7 : place + 8] + b"\x01" + data[place + 9 :]


def _table(*lines: str, encoding: str = "utf-8") -> Make:
    def make(folder: Path) -> str:
        _write(folder, "1.png", "2.png")
        (folder / "table.csv").write_bytes("\n".join(lines).encode(encoding) + b"\n")
        return f"csv:{folder / 'table.csv'}"

    return make


def _tables() -> Iterator[Case]:
    good = ("1.png,ant", "2.png,bee")
    yield "table of two images", _table("path,label", *good), READ
    yield "table with HTML in a label", _table("path,label", "1.png,<b>ant</b>", "2.png,bee"), READ
    yield "table with a line break in a label", _table("path,label", '1.png,"a\nb"', "2.png,bee"), READ
    for what, line in (
        ("an absolute path", "/etc/passwd,ant"),
        ("a path that leaves", "../../etc/passwd,ant"),
        ("a path that is a folder", ".,ant"),
        ("a file that is gone", "3.png,ant"),
        ("a NUL in a path", "1.png\0,ant"),
        ("an image twice", "1.png,bee"),
        ("too few fields", "1.png"),
        ("too many fields", "1.png,ant,train,x,y"),
        ("an empty label", "1.png,"),
        ("a quote that is not closed", '"1.png,ant'),
    ):
        yield f"table with {what}", _table("path,label", *good, line), REFUSED
    yield "table with HTML in a group", _table("path,label,group", "1.png,ant,<b>", "2.png,bee,</b>"), READ
    yield "table with a device as its image", _table("path,label", *good, "/dev/zero,ant"), REFUSED
    yield "table with the same image by another path", _table("path,label", *good, "./1.png,ant"), REFUSED
    yield "table of 200,000 columns", _table("path,label" + ",x" * 200_000, *good), REFUSED
    yield "table with an unknown split", _table("path,label,split", "1.png,ant,exam", "2.png,bee,train"), REFUSED
    yield "table with a misspelt column", _table("path,label,gruop", "1.png,ant,x", "2.png,bee,y"), REFUSED
    yield "table with a column twice", _table("path,label,label", "1.png,ant,x", "2.png,bee,y"), REFUSED
    yield "table without lines", _table("path,label"), REFUSED
    yield "table that is empty", _table(), REFUSED
    yield "table in half of UTF-16", _table("path,label", *good, encoding="utf-16"), REFUSED
    yield "table in UTF-16", _table("path,label", *good, "", encoding="utf-16-le"), REFUSED
    yield "table with semicolons", _table("path;label", "1.png;ant", "2.png;bee", ";", ";;"), READ
    yield (
        "table with tabs and columns by other names",
        _table("x\tImage\tclass", "1\t1.png\tant", "2\t2.png\tbee"),
        READ,
    )
    yield "table of one-hot columns", _table("image,ant,bee", "1.png,1,0", "2.png,0.0,1.0"), READ
    yield "table of columns of several classes", _table("image,ant,bee", "1.png,1,1", "2.png,0,1"), REFUSED
    yield "table with NaN as a label", _table("path,label", *good, "sub/3.png,nan"), REFUSED
    yield "table with labels that are equal numbers", _table("path,label", "1.png,1", "2.png,1.0"), REFUSED
    yield "table in cp1252", _table("path,label", "1.png,\xe4", "2.png,bee", encoding="cp1252"), READ
    yield "table with an infinite number as a label", _table("path,label", "1.png,1e999999999", "2.png,2"), READ
    yield "table with a number of 4,000 digits as a label", _table("path,label", "1.png," + "9" * 4000, "2.png,2"), READ
    yield "table with a field of 10 MB", _table("path,label", *good, "1.png," + "x" * 10_000_000), REFUSED
    yield (
        "table of a group on two sides",
        _table("path,label,split,group", "1.png,ant,train,g", "2.png,bee,test,g"),
        READ,
    )
