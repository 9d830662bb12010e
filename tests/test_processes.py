"""Jobs share devices, are looked after, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rsbench import processes
from rsbench.processes import Command, Job, Outcome, run_jobs


def command(code: str) -> Command:
    return Command((sys.executable, "-S", "-c", code), dict(os.environ))


def run_all(
    jobs: Sequence[Job], codes: dict[int, list[str]], *, num_devices: int = 2
) -> tuple[int | None, dict[int, Outcome], list[str]]:
    """Run jobs of some lines of Python; give the signal, what came of each, and lines heard."""
    outcomes: dict[int, Outcome] = {}
    heard: list[str] = []

    def commands_of(job: Job, devices: Sequence[int]) -> list[Command]:
        named = f"devices = {list(devices)}; "
        return [command(named + code) for code in codes[job.number]]

    stopped = run_jobs(
        jobs,
        num_devices=num_devices,
        commands_of=commands_of,
        heard=lambda job, process, line: heard.append(f"{job.number}.{process} {line}"),
        done=lambda job, outcome: outcomes.update({job.number: outcome}),
    )
    return stopped, outcomes, heard


def alone(number: int, key: str = "") -> Job:
    return Job(number=number, on_all=False, key=key)


def test_what_a_job_s_first_process_prints_is_its_outcome_and_all_are_heard() -> None:
    code = "import sys; print(devices); print('said', file=sys.stderr)"
    stopped, outcomes, heard = run_all([Job(number=0, on_all=True)], {0: [code, code]})

    assert stopped is None
    assert outcomes == {
        0: Outcome(codes=(0, 0), output="[0, 1]", said=(("said",), ("said",)), first_failed=None)
    }
    assert sorted(heard) == ["0.0 said", "0.1 said"]


def test_jobs_on_one_device_come_first_and_each_has_its_own(tmp_path: Path) -> None:
    # Both wait for the other, so they must be at work at once, and the third after them.
    meet = (
        f"from pathlib import Path; import time; folder = Path({str(tmp_path)!r});"
        " (folder / str(devices[0])).touch()\n"
        "while len(list(folder.iterdir())) < 2: time.sleep(0.01)\n"
        "print(devices)"
    )
    jobs = [Job(number=0, on_all=True), alone(1), alone(2)]
    _, outcomes, _ = run_all(jobs, {0: ["print(devices)"], 1: [meet], 2: [meet]})

    assert list(outcomes)[-1] == 0
    assert sorted(outcomes[number].output for number in (1, 2)) == ["[0]", "[1]"]


def test_jobs_of_one_key_are_never_at_work_at_once(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; import time; file = Path({str(tmp_path)!r}, 'busy');"
        " file.touch(exist_ok=False); time.sleep(0.2); file.unlink()"
    )
    jobs = [alone(number, "same") for number in range(3)]
    _, outcomes, _ = run_all(jobs, {number: [code] for number in range(3)}, num_devices=3)

    assert [outcome.codes for outcome in outcomes.values()] == [(0,)] * 3


def test_where_one_process_is_killed_the_others_are_ended_and_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_SECONDS_TO_NOTICE", 0.1)
    monkeypatch.setattr(processes, "_SECONDS_TO_END", 0.1)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    codes = {0: [stubborn, killed], 1: ["print('next')", "pass"]}
    jobs = [Job(number=number, on_all=True) for number in (0, 1)]
    _, outcomes, _ = run_all(jobs, codes)

    assert outcomes[0].codes == (-signal.SIGKILL, -signal.SIGKILL)
    assert outcomes[0].first_failed == 1
    assert outcomes[1].output == "next"


def test_what_the_process_that_failed_first_said_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_SECONDS_TO_NOTICE", 0.1)
    waiting = "import sys, time; print('waiting', file=sys.stderr); time.sleep(600)"
    wrong = "import sys; print('wrong', file=sys.stderr); sys.exit(2)"
    _, outcomes, _ = run_all([Job(number=0, on_all=True)], {0: [waiting, wrong]})

    assert outcomes[0].codes == (-signal.SIGTERM, 2)
    assert (outcomes[0].first_failed, outcomes[0].said) == (1, (("waiting",), ("wrong",)))


def test_a_signal_goes_to_all_processes_and_no_further_job_begins(tmp_path: Path) -> None:
    saving = (
        "import signal, sys, time\n"
        "def save(*caught):\n"
        "    print('saved'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"open({str(tmp_path / 'ready')!r} + str(devices), 'w').close()\n"
        "time.sleep(600)"
    )

    def tell() -> None:
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    teller = threading.Thread(target=tell)
    teller.start()
    before = signal.getsignal(signal.SIGTERM)
    jobs = [alone(number) for number in range(3)]
    stopped, outcomes, _ = run_all(jobs, {0: [saving], 1: [saving], 2: ["pass"]})
    teller.join()

    assert stopped == signal.SIGTERM
    assert {number: each.output for number, each in outcomes.items()} == {0: "saved", 1: "saved"}
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_comes_while_a_process_is_started_is_for_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = processes._start

    def start_and_be_told(*given: Any) -> Any:
        started = start(*given)
        signal.raise_signal(signal.SIGTERM)
        return started

    monkeypatch.setattr(processes, "_start", start_and_be_told)
    stopped, outcomes, _ = run_all([alone(0)], {0: ["import time; time.sleep(600)"]})

    assert stopped == signal.SIGTERM
    assert outcomes[0].codes == (-signal.SIGTERM,)


def test_a_fault_here_leaves_no_process_behind(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    waiting = (
        f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )

    def heard_of(job: Job, outcome: Outcome) -> None:
        raise ValueError("this process failed")

    def commands_of(job: Job, devices: Sequence[int]) -> list[Command]:
        if job.number == 0:
            return [command(waiting)]
        wait = f"import time\nwhile not __import__('os').path.exists({str(started)!r}):\n"
        return [command(wait + "    time.sleep(0.01)")]

    with pytest.raises(ValueError, match="this process failed"):
        run_jobs(
            [alone(0), alone(1)],
            num_devices=2,
            commands_of=commands_of,
            heard=lambda job, process, line: None,
            done=heard_of,
        )
    time.sleep(0.2)
    end = time.monotonic() + 20
    while started.read_text() == "":
        assert time.monotonic() < end
    pid = int(started.read_text())
    # Ended, and waited for: its number is nobody's.
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


STARTER = """
import sys
from rsbench.processes import Command, Job, run_jobs
words = (sys.executable, "-c", sys.argv[1])
run_jobs(
    [Job(number=0, on_all=True)],
    num_devices=1,
    commands_of=lambda job, devices: [Command(words, dict(__import__("os").environ))] * 2,
    heard=lambda job, process, line: None,
    done=lambda job, outcome: None,
)
"""
STARTED = """
import os, pathlib, signal, sys, time
from rsbench.processes import end_with_starter
file = pathlib.Path(os.environ["FOLDER"], str(os.getpid()))
def save(*caught):
    print("a line to nobody", flush=True)
    file.write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
end_with_starter()
file.write_text("begun")
time.sleep(600)
"""


def test_where_the_starter_is_killed_the_processes_save_and_end(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, STARTED],
        env={**os.environ, "FOLDER": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )

    def told() -> list[str]:
        return [path.read_text() for path in tmp_path.iterdir()]

    wait_until(lambda: told() == ["begun", "begun"])
    starter.kill()
    starter.wait()
    wait_until(lambda: told() == ["saved", "saved"])


def wait_until(is_so: Callable[[], bool], *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)
