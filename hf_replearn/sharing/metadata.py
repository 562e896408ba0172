"""License, language and tags as the Hub writes them, and what is wrong with those that were given."""

from __future__ import annotations

import difflib
import re
from typing import Any

from hf_replearn.errors import InputError
from hf_replearn.sharing.readme import Readme

# Names of https://huggingface.co/docs/hub/repositories-licenses; of any other license: `other` and its name.
_LISTED = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gemma
gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c
mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
LICENSES = _LISTED.split()
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?(-[a-z0-9]{5,8})*")  # BCP 47


def license_of(text: str) -> dict[str, str]:
    """{"license": …} of the front matter for what was given, with "license_name" for one that the Hub does not list.

    Raises InputError, which names the nearest license.
    """
    kind, _, name = text.partition(":")
    if kind == "other" and re.fullmatch(r"[\w.+-]+", name):
        return {"license": "other", "license_name": name}
    if text in LICENSES:
        return {"license": text}
    nearest = difflib.get_close_matches(text.lower().replace(" ", "-").replace("_", "-"), LICENSES, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise InputError(
        f"--license {text[:80]!r} is no license of the Hub's list (huggingface.co/docs/hub/repositories-licenses): "
        f"{hint}Another license is other:its-name, with its text in a file LICENSE"
    )


def chosen(settings: dict[str, Any]) -> dict[str, Any]:
    """What these settings put into the front matter: license, language and tags. Raises InputError."""
    found: dict[str, Any] = license_of(settings["license"]) if settings.get("license") else {}
    languages, tags = list(settings.get("language") or ()), list(settings.get("tags") or ())
    for language in languages:
        if language not in ("multilingual", "code") and not LANGUAGE.fullmatch(language):
            raise InputError(
                f"--language {language[:80]!r} is no code of a language: codes are such as en, de, pt-BR or zh-Hant, "
                "with spaces between several, or multilingual"
            )
    for tag in tags:
        if not re.fullmatch(r"[\w.:/+ -]{1,100}", tag) or not tag.strip():
            raise InputError(f"--tags {tag[:80]!r}: a tag is a short word or two, with spaces between several tags")
    return found | ({"language": languages} if languages else {}) | ({"tags": tags} if tags else {})


def check_metadata(settings: dict[str, Any], readme: Readme) -> None:
    """Raises InputError for what was given in another form than the Hub's, or where README.md says otherwise."""
    for key, value in chosen(settings).items():
        there = readme.metadata.get(key, value)
        ours = readme.record.get(key) is not None and not readme.edited(key)
        if key != "tags" and not ours and there != value and [there] != value:
            flag = settings["license"] if key.startswith("license") else " ".join(value)
            raise InputError(
                f"--{key.removesuffix('_name')} {flag}: README.md says {key}: {there!s:.80}, written by hand: "
                "leave the flag out, or take the line out of README.md"
            )
