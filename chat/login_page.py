"""The login page, as HTML. Each value that is given is escaped already."""

from pathlib import Path

_STYLE = (Path(__file__).parent / "login.css").read_text(encoding="utf-8")

_CLAIM = """<label class="claim"><input type="checkbox" name="claim" checked>
<span>Take the conversations of this browser with me</span></label>"""

_NAME_FORM = """<form method="post" action="{root}/login">
<label>Name <input name="name" value="{name}" autocomplete="username" autocapitalize="none" spellcheck="false"
maxlength="64" required {focus_name}></label>
<label>Password <input name="password" type="password" autocomplete="current-password" maxlength="1000" required
{focus_password}></label>
{claim}
<button>Sign in</button>
</form>"""

_HUGGING_FACE = """<form method="get" action="{root}/login/huggingface">
<p>Sign in, and your conversations are there in every browser that you sign in with.</p>
{claim}
<button>Sign in with Hugging Face</button>
<a href="{root}/">Go on without signing in</a>
</form>"""


def login_page(*, title: str, root: str, sentence: str, name: str, claimable: bool, accounts: bool) -> str:
    """The page: the form for a name and a password, or the one that leads to Hugging Face, and why it is back."""
    form = (_NAME_FORM if accounts else _HUGGING_FACE).format(
        root=root,
        name=name,
        claim=_CLAIM if claimable else "",
        focus_name="" if name else "autofocus",
        focus_password="autofocus" if name else "",
    )
    said = f'<p class="sentence" role="alert">{sentence}</p>' if sentence else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Sign in · {title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{said}
{form}
</main>
</body>
</html>
"""
