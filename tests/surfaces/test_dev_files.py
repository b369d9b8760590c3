"""What `cronexec dev` reads and makes: its data directory, `dev.toml`, and the demo; nothing is started."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dev_program import ROOT

from cronexec.cli.documents import CrontabOptions, read_files
from cronexec.dev.cluster import places
from cronexec.dev.devfile import DevFile, DevFileError
from cronexec.dev.directory import DataDirectory, DataDirectoryError
from cronexec.domain.schedule import Schedule

DEMO = ROOT / "deploy" / "demo"


def test_a_data_directory_belongs_to_one_dev_at_a_time(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path),
        pytest.raises(DataDirectoryError, match="is in use by another"),
        DataDirectory(tmp_path),
    ):
        pass
    with DataDirectory(tmp_path) as again:
        assert again.path == tmp_path


def test_a_data_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(DataDirectoryError, match=r"file/data cannot be used: Not a directory; give another"),
        DataDirectory(tmp_path / "file" / "data"),
    ):
        pass


def test_a_temporary_data_directory_is_gone_at_the_end() -> None:
    with DataDirectory() as directory:
        (directory.path / "rabbitmq").mkdir()
        assert directory.path.is_dir()

    assert not directory.path.exists()


def test_instances_have_names_of_two_datacenters() -> None:
    assert [place.name for place in places(5)] == ["ams-1", "ams-2", "fra-1", "ams-3", "ams-4"]
    assert {place.datacenter for place in places(3)} == {"ams", "fra"}


def test_a_dev_file_gives_the_application_and_companions(tmp_path: Path) -> None:
    (tmp_path / "dev.toml").write_text('app = "shop:cron"\nwith = ["python receiver.py"]\n')

    found = DevFile.beside(str(tmp_path / "jobs.yaml"))

    assert (found.app, found.commands, found.folder) == ("shop:cron", ["python receiver.py"], tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ap = 'x:y'", "unknown key ap; there are app and with"),
        ("app = 1", "app: expected text"),
        ("with = 'python x.py'", "with: expected a list of commands"),
        ("app =", "cannot be read"),
    ],
)
def test_a_wrong_dev_file_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "dev.toml").write_text(content)

    with pytest.raises(DevFileError, match=message):
        DevFile.beside(str(tmp_path / "jobs.yaml"))


def test_the_demo_has_350_jobs_of_all_kinds_and_all_of_them_are_valid() -> None:
    reading = read_files([str(DEMO / "jobs.yaml"), str(DEMO / "crontab")], CrontabOptions())

    kinds = [job.target.type for job in reading.jobs]
    assert reading.problems == []
    assert len(reading.jobs) >= 350
    assert {
        kind: kinds.count(kind) >= 20 for kind in ("webhook", "shell", "handler", "publish")
    } == dict.fromkeys(("webhook", "shell", "handler", "publish"), True)
    assert sum(runs_every_minute(job.schedule) for job in reading.jobs) >= 120
    assert all(job.owner and job.labels for job in reading.jobs if job.target.type != "shell")


def runs_every_minute(schedule: Schedule) -> bool:
    at = datetime(2026, 5, 4, 12, tzinfo=UTC)
    return len(list(schedule.slots(at, at + timedelta(minutes=10)))) >= 10


def test_every_handler_of_the_demos_jobs_is_in_its_application() -> None:
    reading = read_files([str(DEMO / "jobs.yaml")], CrontabOptions())
    code = (DEMO / "app.py").read_text()

    wanted = {job.target.name for job in reading.jobs if job.target.type == "handler"}

    assert wanted == set(re.findall(r'@cron\.handler\("(\w+)"\)', code))
