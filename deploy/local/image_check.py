"""Build the image of deploy/Dockerfile without a Docker daemon, run it as a platform would, and stop it under load.

buildah carries out the Dockerfile's own steps on a base that mmdebstrap makes of Debian's packages, since the base
image needs a registry. web, worker and beat then run from the image's files and configuration: as its user, with a
read-only root and a tmpfs, each as process 1 of its own. They archive calls; the worker gets SIGTERM in the middle.

Needs root, buildah and mmdebstrap (Debian and Ubuntu: apt install buildah mmdebstrap).
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from deploy.local.bootstrap import ROOT, WORK
from deploy.local.observer import Observer
from deploy.local.processes import Process, StartError, wait_until
from deploy.local.stack import Stack
from deploy.local.twilio import Trickle

DRAIN_LIMIT_S: Final = 25.0  # Heroku kills 30 s after SIGTERM
_SCRATCH: Final = WORK / "image-check"
_BASE: Final = "python-stand-in"
_TAG: Final = "recording-archiver"
# What the official image of the same Debian has, as Debian packages it, and where the official image has it.
_BASE_PACKAGES: Final = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip"
_LIKE_THE_OFFICIAL: Final = (
    "ln -sf /usr/bin/python3 /usr/local/bin/python; ln -sf /usr/bin/python3 /usr/local/bin/python3"
)
_UNWANTED: Final = ("pip", "pip3", "gcc", "cc", "g++", "ld", "make", "git", "curl", "wget")
# A new mount and process namespace, as a container runtime makes them; then the image's user.
_ENTER: Final = """
set -e
chroot=$1 root=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount -t tmpfs -o nosuid,size=1m tmpfs "$root/dev"
for name in null zero full random urandom; do
    : > "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,size=64m,mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,size=64m,mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec "$chroot" --userspec="$user" "$root" "$@"
"""
_SPLIT: Final = {  # as deploy/ecs/template.yaml splits the worker
    "web": ["web"],
    "worker.archive": ["worker", "--queues", "sweep,audit,notify,archive,backfill"],
    "worker.delete": ["worker", "--queues", "delete"],
    "beat": ["beat"],
}


@dataclass(frozen=True)
class Image:
    """An image's files, mounted, and its configuration as the platform gets it."""

    root: Path
    config: Mapping[str, Any]

    @property
    def user(self) -> str:
        return str(self.config["User"])

    @property
    def environment(self) -> dict[str, str]:
        return dict(each.split("=", 1) for each in self.config["Env"])

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return what starts the image's entry with these arguments, in a container of its own."""
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        enter = ["sh", "-c", _ENTER, "enter", str(shutil.which("chroot")), str(self.root), self.user]
        return [*unshare, *enter, *self._inside(arguments)]

    def beside(self, process: Process, arguments: Sequence[str]) -> list[str]:
        """Return what starts the image's entry in the container of a process that runs, as a health check is."""
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        enter = ["nsenter", "--target", first, "--mount", "--pid", "--", str(shutil.which("chroot"))]
        return [*enter, f"--userspec={self.user}", str(self.root), *self._inside(arguments)]

    def _inside(self, arguments: Sequence[str]) -> list[str]:
        return ["env", "--chdir", self.config["WorkingDir"], *self.config["Entrypoint"], *arguments]


class ImageError(Exception):
    """The image is not as it should be."""


def main(argv: list[str] | None = None) -> int:
    """Run the check; return 0 when everything is as it should be."""
    options = _parse(argv)
    missing = [name for name in ("buildah", "mmdebstrap", "unshare", "chroot") if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        print(f"image-check: needs root and {', '.join(missing) or 'nothing else'}", file=sys.stderr)
        return 1
    try:
        with _built(options) as image:
            _judge_files(image)
            _judge_command_line(image)
            with _running(image) as stack:
                _judge_health(image, stack)
                _judge_drain(stack, options.calls)
    except (ImageError, StartError, TimeoutError, subprocess.CalledProcessError) as error:
        print(f"image-check: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    _say("everything is as it should be")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="deploy/image-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=60, metavar="N", help="how many calls (default %(default)s)")
    parser.add_argument("--base", metavar="IMAGE", help="the base image to use instead of one from Debian's packages")
    return parser.parse_args(argv)


@contextmanager
def _built(options: argparse.Namespace) -> Iterator[Image]:
    """Build the image from the Dockerfile as it stands, and mount it."""
    _SCRATCH.mkdir(parents=True, exist_ok=True)
    base = options.base or _make_base()
    certificates = "/etc/ssl/certs"  # this machine's, for an index behind a certificate of one's own
    began = time.monotonic()
    build = ["bud", "--quiet", "--isolation", "chroot", "--layers=false", "--build-arg", f"PYTHON_IMAGE={base}"]
    files = ["--file", "deploy/Dockerfile", "--ignorefile", "deploy/Dockerfile.dockerignore", "--tag", _TAG]
    _buildah(*build, "--volume", f"{certificates}:{certificates}:ro", *files, ".")
    _say(f"the Dockerfile's steps are carried out ({time.monotonic() - began:.0f} s)")
    container = _buildah("from", f"localhost/{_TAG}")
    try:
        config = json.loads(_buildah("inspect", container))["OCIv1"]["config"]
        yield Image(Path(_buildah("mount", container)), config)
    finally:
        _buildah("rm", container)


def _make_base() -> str:
    """Make the base from Debian's packages, once."""
    if _buildah("images", "--quiet", "--filter", f"reference=localhost/{_BASE}"):
        return f"localhost/{_BASE}"
    began, archive = time.monotonic(), _SCRATCH / "base.tar"
    debootstrap = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_BASE_PACKAGES}", "trixie", str(archive)]
    subprocess.run(debootstrap, check=True)
    container = _buildah("from", "scratch")
    _buildah("add", "--quiet", container, str(archive), "/")
    _buildah("run", "--isolation", "chroot", container, "--", "sh", "-c", _LIKE_THE_OFFICIAL)
    _buildah("commit", "--quiet", "--rm", container, _BASE)
    archive.unlink()
    _say(f"a base of Debian's packages is made ({time.monotonic() - began:.0f} s)")
    return f"localhost/{_BASE}"


def _buildah(command: str, *arguments: str) -> str:
    storage = ["--root", str(_SCRATCH / "storage"), "--runroot", str(_SCRATCH / "run"), "--storage-driver", "vfs"]
    ran = subprocess.run(["buildah", *storage, command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return ran.stdout.decode().strip()


def _running(image: Image) -> Stack:
    """Return the local stack, whose product comes from the image."""
    settings: dict[str, str | None] = {"TMPDIR": None, **image.environment}
    settings |= {"SWEEP_INTERVAL": "5s", "SWEEP_GRACE": "2s"}
    commands = {name: shlex.join(image.command(arguments)) for name, arguments in _SPLIT.items()}
    return Stack(tuple(_SPLIT), settings=settings, commands=commands)


def _judge_files(image: Image) -> None:
    """See that nothing is in the image that builds, installs or makes root, and that its user may write nowhere."""
    user = int(image.user.partition(":")[0])
    _require(user > 0, "the image's user is root")
    _require(image.config["Entrypoint"][0].startswith("/"), "the entry is not a program but a shell's line")
    unwanted, writable = [], []
    for path in _files(image.root):
        place, mode = f"/{path.relative_to(image.root)}", path.lstat().st_mode
        in_bin = path.parent.name in ("bin", "sbin")
        if (mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(mode)) or (in_bin and path.name in _UNWANTED):
            unwanted.append(place)
        if (mode & stat.S_IWOTH or path.lstat().st_uid == user) and not stat.S_ISLNK(mode):
            writable.append(place)
    _require(not unwanted, f"unwanted: {', '.join(unwanted)}")
    _require(set(writable) <= {"/tmp", "/var/tmp", "/run/lock"}, f"writable: {', '.join(writable)}")  # noqa: S108
    _say(f"no installer, compiler or setuid program; user {image.user} owns nothing")


def _files(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if Path(directory, name) not in (root / "proc", root / "sys", root / "dev")]
        yield from (Path(directory, name) for name in (*names, *files))


def _judge_command_line(image: Image) -> None:
    """See that the image is the command line, too, and that nothing can be written but the tmpfs."""
    environment = {**image.environment}
    shown = subprocess.run(image.command(["--version"]), env=environment, stdout=subprocess.PIPE, check=True, text=True)
    _require(shown.stdout.startswith("archiver, version "), str(shown.stdout))
    probe = "import os, pathlib; pathlib.Path('/tmp/written').touch(); print(os.getpid(), os.getuid()); open('x', 'w')"
    entry = Image(image.root, {**image.config, "Entrypoint": ["python", "-c", probe]})
    tried = subprocess.run(entry.command([]), env=environment, capture_output=True, check=False, text=True)
    _require(tried.stdout.split() == ["1", image.user.partition(":")[0]], str(tried))
    _require("Read-only file system" in tried.stderr, str(tried.stderr))
    _say(f"{shown.stdout.strip()}; process 1, unprivileged, read-only root, writable tmpfs")


def _judge_health(image: Image, stack: Stack) -> None:
    """See that a health check in the container of each process finds it well."""
    for name in ("worker.archive", "worker.delete", "beat"):
        command = image.beside(stack.processes[name], ["health", name.partition(".")[0]])

        def is_well(command: Sequence[str] = command) -> bool:
            return subprocess.run(command, env=image.environment, capture_output=True, check=False).returncode == 0

        wait_until(is_well, timeout_s=30, what=f"{name} well", interval_s=1.0)
    _require("SecurityWarning" not in stack.tails(200), f"a process warns of its user\n{stack.tails()}")
    _say("the health checks of workers and beat find them well")


def _judge_drain(stack: Stack, calls: int) -> None:
    """Stop the workers and web in the middle of work, start them again, and see that nothing was lost."""
    observer = Observer(stack.simulator, stack.s3.client(), stack.bucket)
    slow = stack.simulator.inject(Trickle(step_bytes=64_000, pause_s=1.0), times=calls // 2)
    for number in range(calls):
        began = datetime.now(UTC) - timedelta(seconds=120)
        recording = stack.simulator.record(
            next(iter(stack.simulator.accounts)),
            seconds=120.0 if number % 4 else 20.0,
            date_created=began,
            callback_url=stack.callback_url,
        )
        observer.watch("call", recording.sid)
    wait_until(lambda: slow.hits >= 4, timeout_s=60, what="downloads under way")
    for name in stack.processes:
        process = stack.processes[name]
        seconds = _stop(process)
        _say(f"{name}: ended {seconds:.1f} s after SIGTERM, exit code {process.returncode}")
        _require(seconds < DRAIN_LIMIT_S, f"{name} was not drained within {DRAIN_LIMIT_S:g} s")
        _require(process.returncode == 0, f"{name} ended with {process.returncode}\n{process.tail()}")
    slow.remove()
    began = time.monotonic()
    for name in stack.processes:
        stack.processes[name].start()

    def ended() -> bool:
        observer.look()
        return all(each.ended for each in observer.watched)

    wait_until(ended, timeout_s=300, what="every recording archived", interval_s=1.0)
    _require(observer.all_right, str([each.complaints for each in observer.watched if not each.right]))
    right = sum(each.right for each in observer.watched)
    _say(
        f"{right} of {calls} recordings are archived, proven and gone, {time.monotonic() - began:.0f} s after the start"
    )


def _stop(process: Process) -> float:
    """Send SIGTERM as a platform does, and return how many seconds the process took to end."""
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    wait_until(lambda: not process.alive, timeout_s=60, what=f"end of {process.name}")
    return time.monotonic() - began


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise ImageError(complaint)


def _say(line: str) -> None:
    print(f"image-check: {line}", flush=True)
