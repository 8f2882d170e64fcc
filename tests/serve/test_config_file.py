"""The YAML file: what it may hold, what overrides it, and the sentence for what is wrong in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from serve.cli.config import file_schema
from serve.cli.main import app
from serve.cli.up import overrides
from serve.environment import WrongSettings, read_settings
from serve.settings import Settings

ROOT = Path(__file__).parents[2]
TWO_POOLS = """
port: 8100
worker: {max_batch: 4}
models:
  sdxl: {path: /models/sdxl, max_steps: 60}
  sdxl-lightning: {path: /models/lightning}
pools:
  small: {models: [sfumato-embedded], max: 2}
  large: {models: [sdxl, sdxl-lightning], gpus: 1, accelerator: H100, min: 0, max: 8, batch: 16}
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("SFUMATO_") or name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sfumato.yaml"
    monkeypatch.setenv("SFUMATO_CONFIG", str(path))
    return path


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(WrongSettings) as wrong:
        read_settings()
    return str(wrong.value)


def test_an_argument_overrides_a_variable_and_that_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("port: 8100\nworker: {max_batch: 4, spare: 2, threads: 1}\n")
    monkeypatch.setenv("SFUMATO_WORKER__SPARE", "3")
    monkeypatch.setenv("SFUMATO_WORKER__THREADS", "2")

    settings = read_settings({"worker": {"threads": 4}})

    assert settings.port == 8100
    worker = settings.worker
    assert (worker.max_batch, worker.spare, worker.threads, worker.poll_s) == (4, 3, 4, 1.0)


def test_a_variable_adds_to_a_dictionary_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("models: {sdxl: {path: /models/sdxl, max_steps: 60}}")
    monkeypatch.setenv("SFUMATO_MODELS", '{"flux": {"path": "/models/flux"}}')
    settings = read_settings()
    assert list(settings.models) == ["sdxl", "flux"]
    assert settings.models["sdxl"].max_steps == 60


def test_urls_of_the_platform_override_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("database_url: postgresql://file@host/file\nredis_url: redis://file\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://variable@host/variable")
    settings = read_settings()
    assert settings.database_url
    assert settings.redis_url
    assert settings.database_url.get_secret_value() == "postgresql://variable@host/variable"
    assert settings.redis_url.get_secret_value() == "redis://file"


def test_a_pool_has_what_it_sets_and_the_rest_as_everywhere(file: Path) -> None:
    file.write_text(TWO_POOLS)
    settings = read_settings()
    small, large = settings.served_pools["small"], settings.served_pools["large"]
    assert (small.gpus, small.cpus, small.min, small.max, small.batch) == (None, 0.5, 1, 2, 4)
    assert (large.gpus, large.cpus, large.min, large.max, large.batch) == (1, 0.5, 0, 8, 16)
    assert settings.pool_of["sdxl-lightning"] == "large"
    assert settings.least_gpus == 1  # of the replica that shows what a picture costs


def test_without_pools_all_models_share_one(file: Path) -> None:
    file.write_text("models: {sdxl: {path: /models/sdxl}}\nscaling: {diffusion_max: 3}")
    (pool,) = read_settings().served_pools.items()
    assert pool[0] == "default"
    assert pool[1].models == ("sfumato-embedded", "sdxl")
    assert (pool[1].min, pool[1].max, pool[1].batch) == (1, 3, 8)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("worker: {max_bach: 4}", "worker.max_bach in {file} is no setting; the nearest is"
         " worker.max_batch: correct it or remove it."),
        ("prot: 8000", "prot in {file} is no setting; the nearest is port: correct"),
        ("port: eight", "port in {file} is 'eight': "),
        ("models: {sdxl: {}}", "models.sdxl.path in {file} is missing."),
        ("pools: {Large: {models: [sfumato-embedded]}}",
         "pools.Large in {file} is 'Large': a pool's name has up to 40 lower-case"),
        ("pools: {a: {models: [sfumato-embedded], min: 3}}",
         "pools.a in {file}: `min` is 3 and `max` is 1: raise `max` to 3"),
        ("pools: {a: {models: [sfumato-embedded], gpus: 1.5}}",
         "pools.a.gpus in {file} is 1.5: give a fraction of one GPU"),
        ("pools: {a: {models: []}}", "pools.a.models in {file}"),
        ("pools: {a: {models: [sdxl]}}", "SFUMATO_POOLS names 'sdxl', which is no model"),
        ("pools: {a: {models: [sfumato-embedded]}, b: {models: [sfumato-embedded]}}", "twice"),
        ("models: {sdxl: {path: x}}\npools: {a: {models: [sfumato-embedded]}}",
         "SFUMATO_POOLS leaves out 'sdxl'"),
        ("database_url: mysql://secret@host/db", "DATABASE_URL must begin with postgresql://"),
        ("a: [", "{file} is no valid YAML: line 1, column 5: "),
        ("port: 1\nport: 2", "{file} is no valid YAML: line 2, column 1: port stands here twice."),
        ("- port", "{file} must hold settings by name, like `port: 8000`."),
        ("config: other.yaml", "{file} names a file itself by `config`: remove that line."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_place(file: Path, text: str, sentence: str) -> None:
    told = refusal(file, text)
    assert sentence.format(file=file) in told
    assert "secret" not in told


def test_a_variable_that_is_wrong_is_told_by_its_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_PORT", "eight")
    assert refusal(file, "port: 8000").startswith("SFUMATO_PORT is 'eight': ")


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(WrongSettings, match=r"cannot be read \(No such file or directory\)"):
        read_settings()


def test_an_empty_file_and_merged_keys_are_well(file: Path) -> None:
    file.write_text("")
    assert read_settings().port == 8000
    file.write_text("models:\n  a: &a {path: x, max_steps: 60}\n  b: {<<: *a, path: z}\n")
    models = read_settings().models
    assert (models["b"].path, models["b"].max_steps) == ("z", 60)


def test_show_prints_a_file_that_gives_the_same_settings(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(TWO_POOLS)
    monkeypatch.setenv("SFUMATO_API_KEY", "a-key-that-nobody-must-see")
    before = read_settings()
    shown = CliRunner().invoke(app, ["config", "show"])
    assert shown.exit_code == 0
    assert "a-key-that" not in shown.output
    assert f"port: 8100  # {file}\n" in shown.output
    assert "# api_key is set, by SFUMATO_API_KEY\n" in shown.output
    assert 'host: "127.0.0.1"  # default\n' in shown.output

    again = tmp_path / "again.yaml"
    again.write_text(shown.output)
    monkeypatch.setenv("SFUMATO_CONFIG", str(again))
    assert read_settings().model_copy(update={"config": file}) == before


def test_show_of_what_was_changed(file: Path) -> None:
    file.write_text("port: 8100\nworker: {max_batch: 4}")
    shown = CliRunner().invoke(app, ["config", "show", "--changed"])
    assert shown.output == f"port: 8100  # {file}\nworker:\n  max_batch: 4  # {file}\n"


def test_check_of_a_file_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CONFIG", "unused")  # restored after the command sets it
    path = tmp_path / "mine.yaml"
    path.write_text(TWO_POOLS)
    checked = CliRunner().invoke(app, ["config", "check", str(path)])
    assert (checked.exit_code, checked.output) == (
        0,
        "✓ 3 model(s) in 2 pool(s); every setting is valid.\n",
    )
    path.write_text("port: eight")
    checked = CliRunner().invoke(app, ["config", "check", str(path)])
    assert checked.exit_code == 2
    assert f"✗ port in {path} is 'eight'" in checked.output


def test_the_published_schema_is_that_of_the_settings() -> None:
    published = json.loads((ROOT / "docs/sfumato.schema.json").read_text())
    assert published == file_schema(), "sfumato config schema > docs/sfumato.schema.json"


def test_the_schema_takes_what_the_service_takes_and_refuses_the_rest() -> None:
    check = jsonschema.Draft202012Validator(file_schema())
    check.check_schema(file_schema())
    assert not list(check.iter_errors(yaml.safe_load(TWO_POOLS)))
    assert list(check.iter_errors({"worker": {"max_bach": 4}}))
    assert list(check.iter_errors({"config": "other.yaml"}))


def test_a_model_by_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sdxl-turbo").mkdir()
    monkeypatch.chdir(tmp_path)
    model = Settings(**overrides("sdxl-turbo", None, None)).model
    assert (model.name, model.path) == ("sdxl-turbo", str(tmp_path / "sdxl-turbo"))
    model = Settings(**overrides("stabilityai/sd-turbo", "turbo", None)).model
    assert (model.name, model.path) == ("turbo", "stabilityai/sd-turbo")
    assert not Settings(**overrides(None, None, False)).dashboard
    assert overrides(None, None, None) == {}
