import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cronexec.errors import SettingsError
from cronexec.settings import Settings, redact_url


def load(**variables: str) -> Settings:
    return Settings.load(environ={f"CRONEXEC_{name}": value for name, value in variables.items()})


def refusal(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return str(caught.value)


def test_nothing_given_means_the_defaults() -> None:
    settings = Settings.load(environ={})
    assert settings.namespace == "cronexec"
    assert settings.lease == timedelta(seconds=10)
    assert settings.instance is None
    assert settings.candidate
    assert not settings.allow_shell
    assert settings.warnings == ()


def test_variables_are_read_in_their_written_form() -> None:
    settings = load(
        AMQP_URL="amqps://u:p@a/v, amqp://b",
        MONGO_URL="mongodb+srv://u:p@h/my%20db?retryWrites=true",
        ALLOW_SHELL="yes",
        CANDIDATE="FALSE",
        SHUTDOWN_GRACE="2h",
        MAX_RUNNING_SHELL="3",
        RETENTION="7d",
        SECRETS_DIR="/run/secrets",
    )
    assert settings.amqp_urls == ("amqps://u:p@a/v", "amqp://b")
    assert settings.mongo_database == "my db"
    assert (settings.allow_shell, settings.candidate) == (True, False)
    assert settings.shutdown_grace == timedelta(hours=2)
    assert settings.max_running_shell == 3
    assert settings.secrets_dir == Path("/run/secrets")


@pytest.mark.parametrize(
    ("url", "database"),
    [("mongodb://a,b:1/jobs?x=/y", "jobs"), ("mongodb://a", "cronexec"), ("mongodb://a/", "cronexec")],
)
def test_the_database_is_the_one_of_the_url(url: str, database: str) -> None:
    assert load(MONGO_URL=url).mongo_database == database


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"CALLBACK_URL": "http://a:1"}, "callback_url and callback_listen belong together"),
        ({"CALLBACK_LISTEN": ":1"}, "callback_url and callback_listen belong together"),
        (
            {"CALLBACK_URL": "a:1", "CALLBACK_LISTEN": ":1"},
            "CRONEXEC_CALLBACK_URL: expected http://HOST:PORT",
        ),
        ({"CALLBACK_URL": "http://a/?b", "CALLBACK_LISTEN": ":1"}, "CRONEXEC_CALLBACK_URL: expected"),
        ({"CALLBACK_URL": "http://a", "CALLBACK_LISTEN": "8090"}, "CRONEXEC_CALLBACK_LISTEN: expected"),
        ({"CALLBACK_URL": "http://a", "CALLBACK_LISTEN": "a:0"}, "CRONEXEC_CALLBACK_LISTEN: expected"),
        ({"CALLBACK_URL": "http://a", "CALLBACK_LISTEN": "::1:70000"}, "CRONEXEC_CALLBACK_LISTEN: expected"),
    ],
)
def test_wrong_callback_settings_are_refused(given: dict[str, str], said: str) -> None:
    assert said in refusal(**given)


def test_the_stronger_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'namespace = "file"\nlease = "5s"\nheartbeat = 20\namqp_url = ["amqp://f"]\ndatacenter = "file"\n'
    )
    environ = {"CRONEXEC_CONFIG": str(file), "CRONEXEC_LEASE": "6s", "CRONEXEC_DATACENTER": "environment"}
    settings = Settings.load(environ=environ, datacenter="override", namespace=None)
    assert settings.namespace == "file"
    assert settings.heartbeat == timedelta(seconds=20)
    assert settings.amqp_urls == ("amqp://f",)
    assert settings.lease == timedelta(seconds=6)
    assert settings.datacenter == "override"


def test_the_twin_of_a_variable_names_a_file_with_the_value(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("mongodb://u:p@h/db\n")
    assert load(MONGO_URL_FILE=str(secret)).mongo_url == "mongodb://u:p@h/db"
    both = refusal(MONGO_URL_FILE=str(secret), MONGO_URL="mongodb://h")
    assert both == "CRONEXEC_MONGO_URL and CRONEXEC_MONGO_URL_FILE are both set; keep one of them"
    missing = refusal(MONGO_URL_FILE="/nowhere/url")
    assert missing == "CRONEXEC_MONGO_URL_FILE: /nowhere/url cannot be read: No such file or directory"


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"AMQP_ULR": "x"}, "unknown setting CRONEXEC_AMQP_ULR; did you mean CRONEXEC_AMQP_URL?"),
    (
        {"MONGO_URL_FIEL": "x"},
        "unknown setting CRONEXEC_MONGO_URL_FIEL; did you mean CRONEXEC_MONGO_URL_FILE?",
    ),
    (
        {"NAMESPACE": "My Space"},
        "CRONEXEC_NAMESPACE: expected 1 to 64 of a-z 0-9 . _ -; got 'My Space'",
    ),
    ({"HEARTBEAT": "1500ms"}, "CRONEXEC_HEARTBEAT: expected whole seconds, from 1s on; got '1500ms'"),
    ({"CANDIDATE": "maybe"}, "CRONEXEC_CANDIDATE: expected true or false; got 'maybe'"),
    (
        {"LOG_FORMAT": "jsn"},
        "CRONEXEC_LOG_FORMAT: expected one of console, json, auto; got 'jsn'; did you mean 'json'?",
    ),
    ({"MAX_RUNNING_SHELL": "many"}, "CRONEXEC_MAX_RUNNING_SHELL: expected a whole number; got 'many'"),
    ({"MAX_RUNNING_SHELL": "0"}, "CRONEXEC_MAX_RUNNING_SHELL: expected a number of at least 1; got '0'"),
    (
        {"LEASE": "1s"},
        "lease is below 2s, and an idle holder writes once a second: make it 2s or more",
    ),
    (
        {"LEASE": "15s"},
        (
            "baton_lost_after must be longer than lease, or standbys take a holder for lost that still "
            "holds: "
            "make it at least half as long again"
        ),
    ),
    (
        {"BATON_LOST_AFTER": "60s"},
        (
            "instance_lost_after must be longer than baton_lost_after, or runs are abandoned by a "
            "holder that is "
            "itself about to be replaced: make it at least twice as long"
        ),
    ),
    (
        {"BATON_RENEW_INTERVAL": "20m"},
        (
            "baton_renew_interval is above 15m, and RabbitMQ closes channels whose deliveries are "
            "unacknowledged "
            "for 30 minutes: make it 15m or less"
        ),
    ),
    ({"RETENTION": "60s"}, "retention must be longer than instance_lost_after: make it days"),
    (
        {"AMQP_URL": "amqps://h", "AMQP_CERT_FILE": "/c"},
        "amqp_cert_file and amqp_key_file belong together: give both or none",
    ),
    (
        {"AMQP_CA_FILE": "/ca"},
        "amqp_ca_file, amqp_cert_file and amqp_key_file are for TLS: begin the URL with amqps://",
    ),
    (
        {"LEASE": "no", "NAMESPACE": ""},
        (
            "CRONEXEC_NAMESPACE: expected 1 to 64 of a-z 0-9 . _ -; got ''; CRONEXEC_LEASE: 'no' is no "
            "length of time; "
            'write a number with d, h, m, s or ms, as in "15m", "1h30m" or "500ms", or a number of seconds'
        ),
    ),
]


@pytest.mark.parametrize(("variables", "sentence"), REFUSED)
def test_a_wrong_setting_is_refused_with_the_remedy(variables: dict[str, str], sentence: str) -> None:
    assert refusal(**variables) == sentence


@pytest.mark.parametrize(
    "name", ["PORT", "PORT_5672_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT_AMQP", "AMQP_PORT", "WHATEVER"]
)
def test_what_kubernetes_and_others_inject_is_a_warning(name: str) -> None:
    assert load(**{name: "tcp://10.0.0.1:80"}).warnings == (
        f"the variable CRONEXEC_{name} is no setting of cronexec and has no effect",
    )


@pytest.mark.parametrize("name", ["SECRET_TOKEN", "JOB", "SLOT", "RUN_ID", "ATTEMPT", "EPOCH", "PARAMS"])
def test_secrets_and_the_identity_of_a_run_are_no_settings_and_no_surprise(name: str) -> None:
    assert load(**{name: "x"}).warnings == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('amqp_ulr = "x"', "unknown setting amqp_ulr in {file}; did you mean amqp_url?"),
        ("port = 1\nlease = 5", "unknown setting port in {file}; known: amqp_url, "),
        ("candidate = 1", "candidate in {file}: expected true or false; got 1"),
        ("lease =", "the settings file {file} is no TOML: "),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(file, environ={})
    assert str(caught.value).startswith(sentence.format(file=file))


def test_a_file_that_is_not_there_is_named() -> None:
    assert refusal(CONFIG="/nowhere/c.toml") == (
        "the settings file /nowhere/c.toml cannot be read: No such file or directory"
    )


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting lese; did you mean lease\?"):
        Settings.load(environ={}, lese="5s")


def test_no_password_is_shown() -> None:
    settings = load(
        AMQP_URL="amqp://u:hunter2@a/v,amqp://w:hunter2@b",
        MONGO_URL="mongodb://u:hunter2@h/db",
        MANAGEMENT_URL="http://u:hunter2@h:15672",
    )
    assert "hunter2" not in repr(settings) + str(settings)
    assert "amqp://w:***@b" in repr(settings)


@pytest.mark.parametrize("name", ["AMQP_URL", "MONGO_URL", "MANAGEMENT_URL"])
@pytest.mark.parametrize(
    "url", ["foo://u:hunter2@h", "u:hunter2@h", "http//u:hunter2@h", "hunter2", "://hunter2@[h"]
)
def test_no_password_is_in_the_refusal_of_a_url(name: str, url: str) -> None:
    sentence = refusal(**{name: url})
    assert sentence.startswith(f"CRONEXEC_{name}: expected ")
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:p@h/v", "amqp://u:***@h/v"),
        ("amqp://u:p@ss:w/rd@h:5672/v", "amqp://u:***@h:5672/v"),
        ("amqp://h/v", "amqp://h/v"),
        ("amqp://u@h/v", "amqp://u@h/v"),
        ("http://h/x?a=1&api_token=s&b=2", "http://h/x?a=1&api_token=***&b=2"),
        ("u:p@h", "u:***@h"),
        (
            "no answer from http://u:p@h and amqp://v:q@i/",
            "no answer from http://u:***@h and amqp://v:***@i/",
        ),
        ("http://h/?a=b?token=s?t&c=d", "http://h/?a=b?token=***&c=d"),
        ("http://h/?a?TOKEN=s", "http://h/?a?TOKEN=***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "text",
    ["?password" * 7_000, "//:" * 20_000, "@" + "//:" * 20_000, "x@y " + "//://" * 12_000 + "?a?b&" * 9_000],
)
def test_no_text_takes_long_to_be_redacted(text: str) -> None:
    began_at = time.thread_time()
    redact_url(text)
    assert time.thread_time() - began_at < 0.5  # where each beginning looks for its end: minutes


def test_settings_are_frozen() -> None:
    settings: Any = Settings.load(environ={})
    with pytest.raises(ValueError, match="frozen"):
        settings.lease = timedelta(seconds=1)
