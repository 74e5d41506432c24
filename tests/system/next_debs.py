"""The packages of the next version: the same, but for their version and a dlockd one feature level higher (make next)."""
import pathlib
import re
import shutil
import subprocess
import tempfile

from dlock import BUILD, debs

SUFFIX = "+next"


def repack(deb, directory):
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch) / "tree"
        subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
        control = tree / "DEBIAN/control"
        version = re.search(r"^Version: (.*)$", control.read_text(), re.M)[1]
        control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {version}{SUFFIX}").replace(f"(= {version})", f"(= {version}{SUFFIX})"))
        program = tree / "usr/sbin/dlockd"
        if program.exists():
            shutil.copy(BUILD / "next/dlockd", program)
            sums = tree / "DEBIAN/md5sums"
            digest = subprocess.run(["md5sum", program], capture_output=True, text=True, check=True).stdout.split()[0]
            sums.write_text(re.sub(r"^\S+(?=  usr/sbin/dlockd$)", digest, sums.read_text(), flags=re.M))
        made = directory / deb.name.replace(version, version + SUFFIX)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, made], check=True, stdout=subprocess.DEVNULL)
        return made


def next_debs():
    directory = BUILD / "next/deb"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return [repack(deb, directory) for deb in debs()]
