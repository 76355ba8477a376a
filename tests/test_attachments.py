"""Files are sent with messages: read only where uploads are, known by their bytes, limited, and shown again."""

import base64
import hashlib
import io
import os
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect
from pydantic_ai.messages import BinaryContent, TextContent, UserContent

from chat.abilities import AUDIO, DOCUMENTS, IMAGES, TEXT, VIDEOS
from chat.attachments import Limits, Sent, prompt_of
from chat.kinds import endings, kinds_text, takes_sound
from chat.render import LONGEST_PROMPT, PromptRefused
from chat.sniff import media_type_of, text_of
from tests.browser import Chat, ask, open_page, replies
from tests.protocol import Visitor, shown

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGP4z8CAB+GTG8HSALfKY52fTcuYAAAAAElFTkSuQmCC"
)
PDF = b"%PDF-1.7\n%%EOF"
EVERYTHING = IMAGES | AUDIO | VIDEOS | DOCUMENTS | {TEXT}


class Uploads:
    """Files as Gradio keeps them, and messages with them as a page sends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, data: bytes) -> dict[str, str]:
        path = self.folder / hashlib.sha256(data).hexdigest() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"path": str(path), "orig_name": name}

    def prompt(
        self, *files: object, text: Any = "", accepted: frozenset[str] = EVERYTHING, size: int = 10_000, count: int = 5
    ) -> str | list[UserContent]:
        sent = Sent.from_page({"text": text, "files": list(files)})
        limits = Limits(self.folder, size, count, accepted, uploaded=lambda path: True)
        return anyio.run(lambda: prompt_of(sent, limits))

    def refusal(self, *files: object, **limits: Any) -> str:
        with pytest.raises(PromptRefused) as refused:
            self.prompt(*files, **limits)
        return str(refused.value)


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    (tmp_path / "uploads").mkdir()
    return Uploads(tmp_path / "uploads")


class TestPrompt:
    def test_files_come_in_their_order_before_the_text(self, uploads: Uploads) -> None:
        files = [uploads.add("b.pdf", PDF), uploads.add("a.png", PNG)]
        pdf, png, text = uploads.prompt(*files, text="What is it?")
        assert isinstance(pdf, BinaryContent)
        assert isinstance(png, BinaryContent)
        assert (pdf.data, pdf.media_type, pdf.identifier) == (PDF, "application/pdf", "b.pdf")
        assert (png.data, png.media_type, png.identifier) == (PNG, "image/png", "a.png")
        assert text == "What is it?"

    def test_a_message_may_have_no_text_or_no_files_but_not_neither(self, uploads: Uploads) -> None:
        assert len(uploads.prompt(uploads.add("a.png", PNG), text=" \n")) == 1
        assert uploads.prompt(text="hello") == "hello"
        assert uploads.refusal() == "Type a message first."

    def test_a_text_file_is_a_part_of_the_prompt_with_its_name_and_to_the_character(self, uploads: Uploads) -> None:
        words = "a = '```'\r\n\tü\n"
        [content] = uploads.prompt(uploads.add("my.py", words.encode()))
        assert isinstance(content, TextContent)
        assert content.content == f"my.py\n\n````py\n{words}\n````"

    def test_a_program_may_send_a_bare_text_and_nonsense_is_an_empty_message(self) -> None:
        assert Sent.from_page("hello") == Sent("hello")
        for value in (None, 3, [], {}, {"text": 3, "files": "x"}):
            assert Sent.from_page(value).text == ""
            assert not Sent.from_page(value).files

    def test_it_is_called_by_its_text_or_by_its_files(self) -> None:
        files = [{"path": "/x/a.png"}, {"path": "/x/y", "orig_name": "../b\n.pdf"}]
        assert Sent.from_page({"text": "hello", "files": files}).title == "hello"
        assert Sent.from_page({"text": " ", "files": files}).title == "a.png, b.pdf"


class TestRefusals:
    def test_a_kind_that_the_model_does_not_take_names_those_that_it_takes(self, uploads: Uploads) -> None:
        accepted = frozenset({"image/png", "application/pdf", TEXT})
        assert uploads.refusal(uploads.add("a.png", b"GIF89a..."), accepted=accepted) == (
            "“a.png” is of the kind image/gif, which can't be sent here. "
            "Attach pictures (PNG), documents (PDF) or text."
        )
        assert uploads.refusal(uploads.add("a.png", b"\0\1\2"), accepted=frozenset({TEXT})) == (
            "“a.png” is of a kind that can't be sent here. Attach text."
        )

    def test_sizes_and_numbers_name_their_limit(self, uploads: Uploads) -> None:
        large = uploads.add("a.txt", b"x" * 2001)
        assert uploads.refusal(large, size=2000) == "“a.txt” has 2 kB; a file may have at most 2 kB."
        assert uploads.refusal(large, large, large, count=2) == "These are 3 files; at most 2 can be sent at once."
        assert uploads.refusal(uploads.add("a.txt", b"")) == "“a.txt” is empty."
        longest = uploads.add("a.txt", b"x" * (LONGEST_PROMPT - 4))
        assert "at most 4,000,000 can be sent" in uploads.refusal(longest, size=LONGEST_PROMPT)

    def test_half_a_character_is_refused_with_files_too(self, uploads: Uploads) -> None:
        assert "half of a Unicode character" in uploads.refusal(uploads.add("a.png", PNG), text="\ud83d")

    def test_nothing_is_read_outside_of_the_folder(self, uploads: Uploads, tmp_path: Path) -> None:
        secret = tmp_path / "folder" / "chat.db"
        secret.parent.mkdir()
        secret.write_text("secret")
        inside = Path(uploads.add("a.txt", b"hello")["path"])
        (inside.parent / "link.txt").symlink_to(secret)
        (uploads.folder / "folder").symlink_to(secret.parent)
        os.mkfifo(inside.parent / "fifo")
        for path in (
            "/etc/passwd",
            str(secret),
            f"{inside.parent}/../../folder/chat.db",
            f"{uploads.folder}/folder/chat.db",
            f"{inside.parent}/link.txt",
            f"{inside.parent}/fifo",
            str(inside.parent),
            str(uploads.folder),
            f"{inside.parent.name}/a.txt",
            "a\0b",
            "http://127.0.0.1/a.txt",
            "",
            "x" * 10_000,
            None,
        ):
            assert "is no longer here" in uploads.refusal({"path": path, "orig_name": "a.txt"})


class TestKinds:
    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF87a", "image/gif"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
            (b"ID3\4", "audio/mpeg"),
            (b"\xff\xfb\x90", "audio/mpeg"),
            (b"OggS", "audio/ogg"),
            (b"fLaC", "audio/flac"),
            (b"FORM\0\0\0\0AIFF", "audio/aiff"),
            (b"\xff\xf1", "audio/aac"),
            (b"\0\0\0\x18ftypisom", "video/mp4"),
            (b"\0\0\0\x18ftypqt  ", "video/quicktime"),
            (b"\0\0\0\x18ftypheic", "image/heic"),
            (b"\x1aE\xdf\xa3\x9fB\x82\x84webm", "video/webm"),
            (b"\x1aE\xdf\xa3\x9fB\x82\x88matroska", "video/x-matroska"),
            (PDF, "application/pdf"),
            (b"PK\x03\x04 broken", None),
            (b"hello", None),
            (b"", None),
        ],
    )
    def test_the_bytes_say_what_a_file_is(self, data: bytes, kind: str | None) -> None:
        assert media_type_of(data, "a.exe") == kind

    def test_office_files_are_known_by_what_is_in_them(self) -> None:
        for name, kind in (("word/document.xml", "wordprocessingml"), ("xl/workbook.xml", "spreadsheetml")):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr(name, "<x/>")
            assert kind in str(media_type_of(file.getvalue(), "a.zip"))
        assert media_type_of(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.XLS") == "application/vnd.ms-excel"

    def test_texts_are_read_in_their_encoding(self) -> None:
        assert text_of("\ufeffä".encode(), "a") == "ä"
        assert text_of("ä".encode("utf-16"), "a") == "ä"
        assert text_of("ä".encode("cp1252"), "a.csv") == "ä"
        assert text_of("ä".encode("cp1252"), "a.bin") is None
        assert text_of(b"a\0b", "a.txt") is None

    def test_every_kind_that_a_model_can_take_has_a_name_and_an_ending(self) -> None:
        for kind in IMAGES | AUDIO | VIDEOS | DOCUMENTS:
            assert kinds_text({kind})
            assert endings({kind})
        assert takes_sound(AUDIO)
        assert not takes_sound(IMAGES)


def test_gradio_itself_takes_no_path_that_was_not_uploaded(chat: Chat) -> None:
    async def send(path: str, **more: object) -> tuple[bool, str]:
        async with Visitor(chat.url) as visitor:
            file = {"path": path, "meta": {"_type": "gradio.FileData"}, **more}
            try:
                messages, _ = await visitor.last("chat", {"text": "files", "files": [file]}, {"conversation": None})
            except AssertionError as error:
                return False, str(error)
            return True, str(messages)

    for path in ("/etc/passwd", str(chat.database), "http://127.0.0.1:1/x.png", "/tmp/gradio/../../etc/passwd"):  # noqa: S108
        for more in ({}, {"url": "http://127.0.0.1:1/x.png"}, {"is_stream": True}):
            done, said = anyio.run(lambda path=path, more=more: send(path, **more))
            assert not done or said == "[]"
            assert "root:" not in said


def test_a_program_sends_a_text_or_a_dict(chat: Chat) -> None:
    async def send(message: object) -> str:
        async with Visitor(chat.url) as visitor:
            messages, _ = await visitor.last("chat", message, {"conversation": None})
            return shown(messages)[1].strip()

    assert anyio.run(send, "echo hi") == "hi"
    assert anyio.run(send, {"text": "echo hi"}) == "hi"
    assert httpx.get(f"{chat.url}/gradio_api/info").status_code == 200


def payload(name: str, data: bytes, kind: str) -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": data}


def attached(page: Page) -> list[str | None]:
    """The names of the files in the box."""
    return [shown.get_attribute("data-name") for shown in page.locator("#message .thumbnail-wrapper").all()]


def give(page: Page, event: str, name: str, data: bytes, kind: str) -> None:
    """Drop a file on the box, or paste it there."""
    page.locator("#message textarea").evaluate(
        """(box, [event, name, data, type]) => {
            const given = new DataTransfer();
            given.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
            const options = { bubbles: true, cancelable: true };
            box.dispatchEvent(
                event === "drop"
                    ? new DragEvent(event, { ...options, dataTransfer: given })
                    : new ClipboardEvent(event, { ...options, clipboardData: given }));
        }""",
        [event, name, base64.b64encode(data).decode(), kind],
    )


class TestOnThePage:
    def test_files_are_attached_dropped_and_pasted_sent_and_shown_again(self, page: Page, browser: Browser) -> None:
        sound = io.BytesIO()
        with wave.open(sound, "wb") as written:
            written.setparams((1, 2, 8000, 0, "NONE", ""))
            written.writeframes(b"\0" * 800)
        files = [
            ("red.png", PNG, "image/png"),
            ("paper.pdf", PDF, "application/pdf"),
            ("pasted.png", PNG + b" ", "image/png"),
            ("voice.wav", sound.getvalue(), "audio/wav"),
        ]
        page.locator("#message input[type=file]").set_input_files([payload(*file) for file in files[:2]])
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(2)
        give(page, "paste", *files[2])
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(3)
        give(page, "drop", *files[3])
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(4)
        expect(page.locator("#message .thumbnail-wrapper").nth(3)).to_have_attribute("data-name", "voice.wav")
        assert attached(page) == [name for name, _, _ in files]
        ask(page, "files")
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(0)
        said = page.locator(".bot.message").inner_text()
        for name, data, kind in files:
            assert f"{name} {kind} {len(data)} {hashlib.sha256(data).hexdigest()}" in said
        for _ in range(2):
            asked = page.locator(".user-row")
            expect(asked.locator("img")).to_have_count(2)
            expect(asked.locator("audio")).to_have_count(1)
            words = asked.inner_text()
            assert words.index("paper.pdf") < words.index("voice.wav") < words.index("files")
            assert asked.locator("img").first.evaluate("async (img) => (await img.decode(), img.naturalWidth)") == 10
            page.reload()
            expect(page.locator(".bot.message")).to_contain_text("red.png")
        address = page.locator(".user-row img").first.evaluate("(img) => img.src")
        stranger = browser.new_context()
        assert page.request.get(address).body() == PNG
        assert stranger.request.get(address).status == 404
        stranger.close()

    def test_a_file_without_text_is_a_message(self, page: Page) -> None:
        page.locator("#message input[type=file]").set_input_files([payload("notes.py", b"x = 1", "text/x-python")])
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(1)
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".bot.message")).to_be_visible()
        expect(page.locator(".user-row summary")).to_contain_text("notes.py · 5 bytes")
        page.locator(".user-row summary").click()
        expect(page.locator(".user-row pre")).to_contain_text("x = 1")
        expect(page.locator("#conversations a").first).to_have_text("notes.py")

    def test_a_removed_file_is_not_sent_and_the_others_keep_their_names(self, page: Page) -> None:
        names = ("a.txt", "b.txt", "c.txt")
        page.locator("#message input[type=file]").set_input_files(
            [payload(name, name.encode(), "text/plain") for name in names]
        )
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(3)
        page.locator("#message .delete-button").nth(1).click()
        expect(page.locator("#message .thumbnail-wrapper").nth(1)).to_have_attribute("data-name", "c.txt")
        ask(page, "files")
        said = replies(page)[-1]
        assert "a.txt" in said
        assert "c.txt" in said
        assert "b.txt" not in said

    def test_a_kind_that_can_not_be_sent_is_refused_before_the_upload_and_the_rest_stays(self, page: Page) -> None:
        page.locator("#message textarea").fill("echo with")
        page.locator("#message input[type=file]").set_input_files(
            [payload("a.zip", b"PK", "application/zip"), payload("red.png", PNG, "image/png")]
        )
        expect(page.locator(".toast-wrap")).to_contain_text("“a.zip” is of a kind that can't be sent here.")
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(1)
        expect(page.locator("#message textarea")).to_have_value("echo with")

    def test_what_only_its_bytes_tell_is_refused_when_it_is_sent_and_all_stays_in_the_box(self, page: Page) -> None:
        page.locator("#message input[type=file]").set_input_files([payload("a.png", b"\0\1\2", "image/png")])
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(1)
        page.locator("#message textarea").fill("echo with")
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".toast-wrap")).to_contain_text("“a.png” is of a kind that can't be sent here.")
        expect(page.locator("#message textarea")).to_have_value("echo with")
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(1)
        assert page.locator(".user-row").count() == 0
        page.locator("#message .delete-button").click()
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".bot.message")).to_have_text("with")

    def test_only_what_the_model_takes_is_offered_and_limits_come_from_the_settings(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:readers", CHAT_MAX_FILE_MB="0.001", CHAT_MAX_FILES="1")
        page = open_page(visitor, chat.url)
        expect(page.locator("[data-testid=microphone-button]")).to_have_count(0)
        picker = page.locator("#message input[type=file]")
        offered = str(picker.get_attribute("accept"))
        assert ".txt" in offered
        assert ".png" not in offered
        picker.set_input_files([payload("red.png", PNG, "image/png")])
        expect(page.locator(".toast-wrap")).to_contain_text("Attach text.")
        picker.set_input_files([payload("big.txt", b"x" * 1200, "text/plain")])
        expect(page.locator(".toast-wrap")).to_contain_text(
            "“big.txt” has 0.0012 MB; a file may have at most 0.001 MB."
        )
        picker.set_input_files([payload(name, b"x", "text/plain") for name in ("a.txt", "b.txt")])
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(2)
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".toast-wrap")).to_contain_text("These are 2 files; at most 1 can be sent at once.")
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(2)
