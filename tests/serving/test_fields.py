"""The fields that a request may have are those that the documents and the other commands name."""

from pathlib import Path

from conv_dlm.cli.options import option_settings
from conv_dlm.cli.serve import LIMITS
from conv_dlm.serving.fields import COMMON, LENGTHS, OF_THE_SERVER, OWN, UNSUPPORTED, WITHOUT_EFFECT, decode_settings

PAGE = (Path(__file__).resolve().parents[2] / "docs/serving.md").read_text()


def test_settings_are_those_of_the_other_commands():
    settings = decode_settings()
    assert settings.keys() == option_settings().keys() - OF_THE_SERVER - set(LENGTHS)
    assert {name: option_settings()[name].kind for name in settings} == settings


def test_the_page_has_all_fields_and_limits():
    fields = {*COMMON, *WITHOUT_EFFECT, *UNSUPPORTED, *OWN["chat"], *OWN["completion"]} - {"stream_options"}
    assert [name for name in fields | {"stream_options.include_usage"} if f"`{name}`" not in PAGE] == []
    for name, (default, _) in LIMITS.items():
        assert f"`--{name.replace('_', '-')}` | {default} |" in PAGE
