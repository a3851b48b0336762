"""What those who run the daemon rely on: the self-test, reloading, logs, figures, the hook."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pydicom
import pytest

from dicomguard.model import Verdict
from watching import CLEAN, EXECUTABLE, Daemon, carrier, records_of, run, until

HUNT = 'rule hunt { strings: $s = "DICOMGUARD-HUNT" condition: $s }'
HUNTED = CLEAN + b"DICOMGUARD-HUNT"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, page):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def rules(tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "own.yar").write_text("rule nothing { condition: false }")
    return folder


# The self-test


def test_rules_that_do_not_fire_are_not_relied_on(tmp_path, ingest, vault):
    copy = tmp_path / "copy"
    for name in ("src", "rules"):
        shutil.copytree(Path(__file__).parents[1] / name, copy / name)
    (copy / "rules" / "eicar.yar").unlink()
    (ingest / "a").write_bytes(CLEAN)
    env = os.environ | {"PYTHONPATH": str(copy / "src")}
    result = run("watch", ingest, "--quarantine", vault, env=env)
    assert result.returncode == 2
    assert b"the self-test failed: the EICAR test file was not recognised" in result.stderr
    assert (ingest / "a").read_bytes() == CLEAN
    assert list((vault / "state").glob("rules*")) == []


def test_a_rule_that_does_not_compile_stops_the_start(ingest, vault, rules):
    (rules / "own.yar").write_text("rule broken {")
    result = run("watch", ingest, "--quarantine", vault, "--rules", rules)
    assert result.returncode == 2
    assert b"own.yar" in result.stderr
    assert b"Traceback" not in result.stderr


# Names of unfinished uploads


def test_unfinished_uploads_wait_for_their_name(ingest, vault):
    (ingest / ".rsync").mkdir()
    names = ["a.part", "b.tmp", "c.filepart", ".d.dcm.Xy12", ".rsync/e", "f.PART"]
    with Daemon(ingest, vault, "--reconcile", "0.2") as daemon:
        for name in names:
            (ingest / name).write_bytes(EXECUTABLE)
        daemon.await_line("quarantined", ": f.PART")
        time.sleep(0.6)
        assert len(daemon.lines("quarantined")) == 1
        for name in names[:5]:
            (ingest / name).rename(ingest / f"done{names.index(name)}")
        daemon.await_line("malicious quarantined", count=6)


def test_which_names_wait_can_be_said(ingest, vault):
    with Daemon(ingest, vault, "--unfinished", "*.x", "--unfinished", "y?") as daemon:
        for name in ("a.x", "y1", "a.part", ".b"):
            (ingest / name).write_bytes(EXECUTABLE)
        daemon.await_line("malicious quarantined", count=2)
        time.sleep(0.4)
    assert sorted(path.name for path in ingest.iterdir()) == ["a.x", "y1"]


def test_a_forgotten_upload_is_mentioned(ingest, vault):
    path = ingest / "a.part"
    path.write_bytes(CLEAN)
    os.utime(path, (time.time() - 8000,) * 2)
    with Daemon(ingest, vault, "--reconcile", "0.1") as daemon:
        daemon.await_line("unfinished uploads: 1 files wait for their final name, one for 2 h")
        time.sleep(0.5)
        assert len(daemon.lines("unfinished uploads")) == 1


# Giants


def test_a_giant_of_nothing_blocks_neither_the_quarantine_nor_the_disk(tmp_path, ingest, vault):
    with (ingest / "giant").open("wb") as target:
        target.write(EXECUTABLE)
        target.truncate(1 << 40)
    options = ["--deliver", tmp_path / "deliver", "--reconcile", "0.2"]
    with Daemon(ingest, vault, *options) as daemon:
        daemon.await_line("incomplete kept it is larger than 16 GiB, not opened: giant")
        (ingest / "bad").write_bytes(EXECUTABLE)
        (ingest / "clean").write_bytes(CLEAN)
        daemon.await_line("malicious quarantined", ": bad")
        daemon.await_line("clean delivered: clean")
        time.sleep(0.5)
        assert len(daemon.lines(": giant")) == 1
        (ingest / "giant").rename(ingest / "smaller")
        os.truncate(ingest / "smaller", 1 << 20)
        daemon.await_line("malicious quarantined", ": smaller")
        assert daemon.stop() == 0


# What the administrator restored


def test_what_was_restored_passes_and_is_called_allowed(ingest, vault):
    with Daemon(ingest, vault) as daemon:
        (ingest / "a").write_bytes(EXECUTABLE)
        daemon.await_line("malicious quarantined")
        (record,) = records_of(vault)
        restored = run(
            "quarantine", "restore", record.id, "--quarantine", vault, "--reason", "wanted"
        )
        assert restored.returncode == 0, restored.stderr
        daemon.await_line("allowed: a")
        time.sleep(0.5)
    assert (ingest / "a").read_bytes() == EXECUTABLE
    assert len(records_of(vault)) == 1


def test_what_was_restored_passes_though_it_could_not_be_examined(ingest, vault):
    """The report of a file that killed its worker says nothing of its hash."""
    with Daemon(ingest, vault, "--workers", "1") as daemon:
        with (ingest / "large").open("wb") as target:
            target.write(CLEAN)
            target.truncate(600 << 20)
        until(lambda: holders(daemon, ingest / "large"), daemon.log)
        os.kill(holders(daemon, ingest / "large")[0], signal.SIGKILL)
        daemon.await_line("incomplete quarantined", ": large")
        (record,) = records_of(vault)
        arguments = ["restore", record.id, "--quarantine", vault, "--reason", "wanted"]
        assert run("quarantine", *arguments).returncode == 0
        until(lambda: holders(daemon, ingest / "large"), daemon.log)
        os.kill(holders(daemon, ingest / "large")[0], signal.SIGKILL)
        daemon.await_line("allowed: large")
        assert daemon.stop() == 0


# Studies that are held together


def test_the_rest_of_a_study_is_held_with_the_bad_file(tmp_path, ingest, vault):
    deliver = tmp_path / "deliver"
    bad = carrier(1, tmp_path)
    study = pydicom.dcmread(io.BytesIO(bad)).StudyInstanceUID
    other = pydicom.dcmread(io.BytesIO(CLEAN))
    other.StudyInstanceUID = study.rpartition(".")[0] + ".4711"
    other.save_as(tmp_path / "other")
    with Daemon(ingest, vault, "--deliver", deliver, "--hold-study", "5") as daemon:
        (ingest / "before").write_bytes(CLEAN)
        daemon.await_line("clean delivered: before")
        (ingest / "bad").write_bytes(bad)
        daemon.await_line("malicious quarantined")
        held_since = time.monotonic()
        (ingest / "rest").write_bytes(CLEAN)
        shutil.copy(tmp_path / "other", ingest / "other")
        daemon.await_line("held quarantined", "STUDY-HELD", ": rest")
        daemon.await_line("clean delivered: other")
        time.sleep(max(0, held_since + 5.5 - time.monotonic()))
        (ingest / "late").write_bytes(CLEAN)
        daemon.await_line("clean delivered: late")
        assert daemon.stop() == 0
    records = {Path(record.original_path).name: record for record in records_of(vault)}
    assert records.keys() == {"bad", "rest"}
    assert records["rest"].verdict is Verdict.CLEAN


# A file that takes the scanner with it


def test_a_file_that_kills_its_worker_is_incomplete_once(ingest, vault):
    with Daemon(ingest, vault, "--workers", "1", "--on-incomplete", "keep") as daemon:
        with (ingest / "large").open("wb") as target:
            target.write(CLEAN)
            target.truncate(600 << 20)
        until(lambda: holders(daemon, ingest / "large"), daemon.log)
        (worker,) = holders(daemon, ingest / "large")
        os.kill(worker, signal.SIGKILL)
        daemon.await_line("incomplete kept the worker died (SIGKILL): large")
        (ingest / "b").write_bytes(CLEAN)
        daemon.await_line("clean: b")
        time.sleep(0.5)
        assert len(daemon.lines("large")) == 1
        assert daemon.stop() == 0
    with Daemon(ingest, vault, "--workers", "1", "--on-incomplete", "keep") as daemon:
        time.sleep(0.5)
        assert not daemon.lines("large")


def processes_of(daemon):
    """The processes of a daemon but itself, with their parents."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,ppid=", "-g", str(daemon.process.pid)],
        capture_output=True,
        check=False,
        text=True,
    ).stdout
    parents = dict(map(int, line.split()) for line in listed.splitlines())
    parents.pop(daemon.process.pid, None)
    return parents


def holders(daemon, path):
    """The workers that have a file open."""
    found = []
    for process in processes_of(daemon):
        with contextlib.suppress(OSError):
            opened = Path(f"/proc/{process}/fd").iterdir()
            if str(path) in [os.readlink(entry) for entry in opened]:
                found.append(process)
    return found


def test_a_file_that_takes_the_daemon_with_it_every_time_is_given_up(ingest, vault):
    """And the files that were in hand with it are not."""
    (ingest / "large").write_bytes(CLEAN)
    os.truncate(ingest / "large", 900 << 20)
    deaths = 0
    while deaths < 10:
        with Daemon(ingest, vault, "--workers", "2", "--on-incomplete", "keep") as daemon:
            (ingest / f"innocent{deaths}").write_bytes(CLEAN)
            until(
                lambda d=daemon: d.lines("incomplete kept") or holders(d, ingest / "large"),
                lambda d=daemon: d.log,
            )
            if daemon.lines("incomplete kept"):
                break
            os.killpg(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait()
            deaths += 1
    assert deaths == 6
    with Daemon(ingest, vault, "--workers", "2", "--on-incomplete", "keep") as daemon:
        (ingest / "last").write_bytes(CLEAN)
        daemon.await_line("clean: last")
        assert not daemon.lines("large")
        assert not daemon.lines("incomplete")


def test_workers_that_die_all_at_once_cost_no_file_its_verdict(ingest, vault):
    with Daemon(ingest, vault, "--on-incomplete", "keep") as daemon:
        for number in range(40):
            (ingest / f"{number}").write_bytes(CLEAN)
        daemon.await_line(" clean: ", count=5)
        for process in processes_of(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        (ingest / "last").write_bytes(CLEAN)
        daemon.await_line(" clean: ", count=39, seconds=60)
        daemon.await_line(" clean: last", seconds=60)
        # The workers that died had one file each in their hands.
        assert len(daemon.lines("incomplete kept")) <= os.cpu_count()
        assert daemon.stop() == 0


# One thing does not hold up another


def test_a_large_file_that_is_being_stored_holds_up_no_clean_one(ingest, vault):
    with (ingest / "large").open("wb") as target:
        target.write(EXECUTABLE)
        for _ in range(150):
            target.write(os.urandom(1 << 20))
    with Daemon(ingest, vault) as daemon:
        until(lambda: list((vault / "pending").glob("*.cart")), daemon.log)
        (ingest / "small").write_bytes(CLEAN)
        daemon.await_line("clean: small")
        assert not daemon.lines(": large"), "the large file was stored before the small one came"
        daemon.await_line("malicious quarantined", ": large")


def test_without_events_the_scan_finds_everything(ingest, vault):
    with Daemon(ingest, vault, "--poll", "--reconcile", "0.2") as daemon:
        daemon.await_line("by nothing but a scan (as configured) every 0.2 s")
        assert not [
            entry
            for entry in Path(f"/proc/{daemon.process.pid}/fd").iterdir()
            if os.readlink(entry) == "anon_inode:inotify"
        ]
        folder = ingest / "a" / "b"
        folder.mkdir(parents=True)
        (folder / "bad").write_bytes(EXECUTABLE)
        daemon.await_line("malicious quarantined", ": a/b/bad")
        (folder / "clean").write_bytes(CLEAN)
        daemon.await_line("clean: a/b/clean")
        assert daemon.stop() == 0


# Reloading


@pytest.fixture
def config(tmp_path, rules):
    path = tmp_path / "dicomguard.toml"
    path.write_text(
        f'[scan]\nrules = ["{rules}"]\n'
        f'[watch]\nsettle = 0.1\nreconcile = 30\nunfinished = ["*.part"]\nlog = "text"\n'
    )
    return path


def test_sighup_reads_rules_and_settings_again(ingest, vault, rules, config):
    (ingest / "a").write_bytes(HUNTED)
    (ingest / "b.part").write_bytes(EXECUTABLE)
    with Daemon(ingest, vault, config=config) as daemon:
        daemon.await_line("clean: a")
        (rules / "own.yar").write_text(HUNT)
        config.write_text(config.read_text().replace("*.part", "*.other"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.await_line("reloaded; watching")
        daemon.await_line("malicious quarantined", "YARA", ": a")
        daemon.await_line("malicious quarantined", ": b.part")
        assert daemon.stop() == 0


def test_a_pack_that_does_not_compile_leaves_the_old_one_in_force(ingest, vault, rules, config):
    (rules / "own.yar").write_text(HUNT)
    with Daemon(ingest, vault, config=config) as daemon:
        (rules / "own.yar").write_text("rule broken {")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.await_line("the settings from before stay in force", "own.yar")
        (ingest / "a").write_bytes(HUNTED)
        daemon.await_line("malicious quarantined", "YARA", ": a")
        # Nor does a worker that is started anew see what does not compile.
        for process in workers_of(daemon):
            os.kill(process, signal.SIGKILL)
        (ingest / "b").write_bytes(HUNTED)
        daemon.await_line("malicious quarantined", "YARA", ": b")
        assert daemon.stop() == 0
    assert not list((vault / "state").glob("rules*"))


def workers_of(daemon):
    """The workers: children of the fork server, which is the daemon's."""
    parents = processes_of(daemon)
    return [process for process, parent in parents.items() if parent in parents]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("settle = 0.1", "settle = 0"), "watch.settle"),
        (("settle", "settel"), "did you mean settle?"),
        (("[watch]", '[watch]\nstate = "/elsewhere"'), "restart"),
        (("[watch]", "[watch"), "cannot read"),
    ],
)
def test_settings_that_are_wrong_leave_the_old_ones_in_force(ingest, vault, config, change, said):
    with Daemon(ingest, vault, config=config) as daemon:
        config.write_text(config.read_text().replace(*change))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.await_line("the settings from before stay in force", said)
        (ingest / "a").write_bytes(CLEAN)
        daemon.await_line("clean: a")
        assert daemon.stop() == 0


def test_flags_hold_across_a_reload(ingest, vault, config):
    with Daemon(ingest, vault, "--settle", "0.2", config=config) as daemon:
        daemon.await_line("after 0.2 s of quiet")
        config.write_text(config.read_text().replace("reconcile = 30", "reconcile = 7"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.await_line("reloaded", "every 7 s", "after 0.2 s of quiet")


# Logs


def test_the_log_is_json_with_ecs_names_unless_it_is_read_by_people(ingest, vault):
    (ingest / "odd\n\x1b[31m").write_bytes(EXECUTABLE)
    (ingest / "clean").write_bytes(CLEAN)
    (ingest / "link").symlink_to("clean")
    with Daemon(ingest, vault, "--log-paths", log="auto") as daemon:
        daemon.await_line("malicious-quarantined")
        daemon.await_line('"clean"')
        assert daemon.stop() == 0
    assert daemon.log.isascii()
    entries = {entry.get("event.action"): entry for entry in daemon.entries}
    bad = entries["malicious-quarantined"]
    (record,) = records_of(vault)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", bad["@timestamp"])
    assert bad["log.level"] == "warning"
    assert bad["event.kind"] == "alert"
    assert bad["file.path"] == r"odd\n\x1b[31m"
    assert bad["file.size"] == len(EXECUTABLE)
    assert bad["file.hash.sha256"] == record.sha256
    assert bad["dicomguard.record"] == record.id
    assert bad["dicomguard.verdict"] == "malicious"
    assert "POLY-PE" in bad["rule.id"]
    assert entries["clean"]["event.kind"] == "event"
    assert "symbolic link" in entries["skipped"]["message"]
    for entry in daemon.entries:
        assert entry["ecs.version"]
        assert entry["service.name"] == "dicomguard"


@pytest.mark.parametrize(
    ("log", "options"), [("text", ["--no-log-paths"]), ("json", ["--no-log-paths"]), ("json", [])]
)
def test_paths_are_in_the_log_only_if_they_shall_be(ingest, vault, log, options):
    folder = ingest / "DOE^JOHN"
    folder.mkdir()
    (folder / "IM1").write_bytes(EXECUTABLE)
    (folder / "IM2").write_bytes(CLEAN)
    os.mkfifo(folder / "IM3")
    with Daemon(ingest, vault, *options, log=log) as daemon:
        daemon.await_line("path:", count=3)
        assert daemon.stop() == 0
    assert "DOE" not in daemon.log
    assert "IM" not in daemon.log
    assert records_of(vault)[0].original_path == str(folder / "IM1")


# Events


def cef(message):
    """Priority, header and fields of a message."""
    pattern = r"<(\d+)>dicomguard\[\d+\]: (CEF:0(?:\|[^|]+){6})\|(.*)"
    priority, head, tail = re.fullmatch(pattern, message.decode()).groups()
    return priority, head.split("|"), dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", tail))


def test_what_is_not_routine_goes_to_syslog(tmp_path, ingest, vault):
    path = tmp_path / "syslog"

    def listening():
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.settimeout(30)
        listener.bind(str(path))
        return listener

    with listening() as listener, Daemon(ingest, vault, "--syslog", path) as daemon:
        (ingest / "clean").write_bytes(CLEAN)
        daemon.await_line("clean: clean")
        (ingest / "bad|=a b").write_bytes(EXECUTABLE)
        priority, head, told = cef(listener.recv(10_000))
        (record,) = records_of(vault)
        assert priority == "28"  # of a daemon, a warning
        assert head[:3] == ["CEF:0", "dicomguard", "dicomguard"]
        assert head[4:] == ["malicious-quarantined", "malicious-quarantined", "10"]
        assert told["fileHash"] == record.sha256
        assert (told["cs1Label"], told["cs1"]) == ("record", record.id)
        assert (told["cs2Label"], "POLY-PE" in told["cs2"]) == ("findings", True)
        assert told["filePath"] == r"bad|\=a b"
        assert int(told["fsize"]) == len(EXECUTABLE)
        listener.close()
        path.unlink()
        (ingest / "b").write_bytes(EXECUTABLE + b"b")
        daemon.await_line("syslog: messages are lost")
        with listening() as again:
            (ingest / "c").write_bytes(EXECUTABLE + b"c")
            assert b"malicious-quarantined" in again.recv(10_000)
            daemon.await_line("syslog: over after")
        assert daemon.stop() == 0


def test_syslog_over_udp_without_paths(ingest, vault):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.settimeout(30)
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with Daemon(ingest, vault, "--syslog", address, log="json") as daemon:
            (ingest / "DOE^JOHN").write_bytes(EXECUTABLE)
            message = listener.recv(10_000)
            assert b"|malicious-quarantined|" in message
            assert b"DOE" not in message
            assert daemon.stop() == 0


# Figures and health


def test_figures_and_health_are_served_on_the_loopback_address(ingest, vault):
    port = free_port()
    (ingest / "a").write_bytes(EXECUTABLE)
    options = ["--metrics", str(port), "--reconcile", "0.2"]
    with Daemon(ingest, vault, *options) as daemon:
        daemon.await_line("malicious quarantined")
        (ingest / "b").write_bytes(CLEAN)
        daemon.await_line("clean: b")
        status, page = fetch(port, "metrics")
        assert status == 200
        assert 'dicomguard_files_total{outcome="malicious quarantined"} 1.0' in page
        assert 'dicomguard_files_total{outcome="clean"} 1.0' in page
        assert "dicomguard_healthy 1.0" in page
        assert 'dicomguard_outcome_seconds_bucket{le="2.5"} 1.0' in page
        assert re.search(r"^dicomguard_journal_bytes [1-9]", page, re.MULTILINE)
        assert fetch(port, "health") == (200, '{"status": "ok", "troubles": {}}')
        assert fetch(port, "other")[0] == 404
        with socket.socket() as probe:
            other = socket.gethostbyname(socket.gethostname())
            if not other.startswith("127."):
                assert probe.connect_ex((other, port)) != 0

        ingest.rename(ingest.with_name("gone"))
        daemon.await_line("ingest folder: it cannot be watched")
        status, page = fetch(port, "health")
        assert status == 503
        assert json.loads(page)["troubles"].keys() == {"ingest folder"}
        ingest.with_name("gone").rename(ingest)
        daemon.await_line("ingest folder: over after")
        until(lambda: fetch(port, "health")[0] == 200, daemon.log)


@pytest.mark.parametrize("address", ["x", "0", "70000", "example.org:80", "1.2.3.4:1"])
def test_an_address_that_cannot_be_served_is_said(ingest, vault, address):
    result = run("watch", ingest, "--quarantine", vault, "--metrics", address)
    assert result.returncode == 2
    assert address.encode() in result.stderr
    assert b"Traceback" not in result.stderr


# The hook


def hook(tmp_path, text):
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_command_is_run_with_the_record_when_the_file_is_safe(tmp_path, ingest, vault):
    seen = f'"{tmp_path}/$1.tmp"'
    path = hook(tmp_path, f'(cat; ls "{vault}/records") > {seen}; mv {seen} "{tmp_path}/$1"')
    with Daemon(ingest, vault, "--on-quarantine", f"{path} 'an argument'") as daemon:
        (ingest / "a").write_bytes(EXECUTABLE)
        until((tmp_path / "an argument").exists, daemon.log)
        assert daemon.stop() == 0
    seen = (tmp_path / "an argument").read_text()
    told, end = json.JSONDecoder().raw_decode(seen)
    (record,) = records_of(vault)
    assert told == record.to_json()
    assert f"{record.id}.json" in seen[end:]


def test_a_command_that_hangs_or_fails_holds_up_nothing(tmp_path, ingest, vault):
    path = hook(tmp_path, 'grep -q slow && { sleep 60 & echo $! > "$0.pid"; wait; }; exit 3')
    options = ["--on-quarantine", path, "--on-quarantine-timeout", "0.5"]
    with Daemon(ingest, vault, *options) as daemon:
        (ingest / "slow").write_bytes(EXECUTABLE)
        daemon.await_line("malicious quarantined")
        (ingest / "b").write_bytes(EXECUTABLE + b"b")
        daemon.await_line("malicious quarantined", ": b")
        daemon.await_line("on_quarantine took longer than 0.5 s")
        daemon.await_line("on_quarantine ended with 3")
        child = int((tmp_path / "hook.pid").read_text())
        until(lambda: not os.path.exists(f"/proc/{child}"), "the end of what the hook started")
        assert daemon.stop() == 0


def test_a_command_that_does_not_exist_is_said(ingest, vault):
    with Daemon(ingest, vault, "--on-quarantine", "/nowhere/hook") as daemon:
        (ingest / "a").write_bytes(EXECUTABLE)
        daemon.await_line("on_quarantine cannot be run", "No such file")
        assert daemon.stop() == 0


# systemd


def test_systemd_is_told_of_every_step(tmp_path, ingest, vault):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(30)
        env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}

        def next_but_watchdog():
            message = b"WATCHDOG=1"
            while message == b"WATCHDOG=1":
                message = systemd.recv(200)
            return message

        with Daemon(ingest, vault, env=env) as daemon:
            assert systemd.recv(200) == b"READY=1"
            for _ in range(3):
                assert systemd.recv(200) == b"WATCHDOG=1"
            daemon.process.send_signal(signal.SIGHUP)
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", next_but_watchdog())
            assert next_but_watchdog() == b"READY=1"
            assert daemon.stop() == 0
            assert next_but_watchdog() == b"STOPPING=1"
