"""The look of the chat: Gradio's variables. What they can't say is in `page.css`."""

from gradio.themes import Base
from gradio.themes.utils import colors, sizes

# The system's own fonts: no request to a font host, and the page looks at home.
_SANS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]

THEME = Base(  # pyright: ignore[reportUnknownMemberType]  # Gradio leaves the types of its variables open
    primary_hue=colors.teal,
    neutral_hue=colors.stone,
    radius_size=sizes.radius_lg,
    text_size=sizes.text_md,
    font=_SANS,
    font_mono=_MONO,
).set(
    # Gradio's own have a contrast of 2.5 to white; small text needs 4.5, on white and on the accent.
    color_accent="*primary_700",
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
)
