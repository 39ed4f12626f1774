import hashlib
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from http_server import Answer, http_server  # noqa: F401  (a fixture)

from invad.data.official.http import Remote, RetryPolicy, download, verify
from invad.errors import InputError

BODY = bytes(range(256)) * 8  # 2048 bytes
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = BODY[::-1]
QUICK = RetryPolicy(attempts=3, backoff=0.002, timeout=5)
IMPATIENT = replace(QUICK, timeout=0.3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archives/a.zip"


@pytest.fixture
def remote(server):
    server.files["a.zip"] = BODY
    return Remote("a.zip", server.url("a.zip"), len(BODY), SHA256)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def leave_part(path, size, *, body=BODY):
    """What an interrupted download leaves: the first `size` bytes of `body`."""
    path.parent.mkdir(exist_ok=True)
    path.with_name("a.zip.part").write_bytes(body[:size])


def test_a_file_arrives_whole_verified_and_alone(server, remote, path):
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["a.zip"]
    assert server.ranges("a.zip") == [None]
    assert server.seen[0][1]["Accept-Encoding"] == "identity"


def test_a_finished_file_is_verified_and_not_fetched_again(server, remote, path):
    download(remote, path, policy=QUICK)
    download(remote, path, policy=QUICK)
    path.write_bytes(OTHER)
    with pytest.raises(InputError, match=r"archives/a\.zip: not the a\.zip expected: sha256 .*move it away"):
        download(remote, path, policy=QUICK)
    assert path.read_bytes() == OTHER
    assert server.requests("a.zip") == 1


def test_a_bar_counts_the_bytes(server, remote, path, capsys):
    server.script["a.zip"] = [Answer(cut=500), Answer()]
    download(remote, path, policy=QUICK, label="download@test")
    assert "download@test: 100%" in (text := capsys.readouterr().err)
    assert "2.05k/2.05k" in text


def test_a_cut_connection_is_continued_where_it_ended(server, remote, path):
    server.script["a.zip"] = [Answer(cut=500), Answer(cut=700), Answer()]
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == [None, "bytes=500-", "bytes=1200-"]


def test_any_number_of_cuts_is_survived_while_each_attempt_brings_a_new_byte(server, remote, path):
    server.script["a.zip"] = [Answer(cut=50)]
    download(remote, path, policy=replace(QUICK, attempts=1))
    assert path.read_bytes() == BODY
    assert server.requests("a.zip") == 41  # 40 of 50 bytes, and 48


@pytest.mark.parametrize(
    "answer",
    [Answer(cut=500, ranges=False), Answer(cut=0), Answer(500), Answer(429), Answer(stall=0)],
    ids=["no ranges", "nothing", "500", "429", "stall"],
)
def test_attempts_without_a_new_byte_are_bounded(server, remote, path, answer):
    server.script["a.zip"] = [answer]
    problem = f"the server answers {answer.status}" if answer.status != 200 else "3 attempts without a new byte"
    with pytest.raises(InputError, match=rf"a\.zip: http://.*{problem}.*; give another address"):
        download(replace(remote, hint="give another address"), path, policy=replace(QUICK, timeout=0.5))
    assert server.requests("a.zip") == (4 if answer.cut else 3)  # the first one with new bytes is no failure
    assert not path.exists()


def test_a_server_without_ranges_starts_again_from_zero(server, remote, path):
    server.script["a.zip"] = [Answer(cut=500, ranges=False), Answer(ranges=False)]
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == [None, "bytes=500-"]


def test_a_file_that_changes_between_attempts_never_passes(server, remote, path):
    server.script["a.zip"] = [Answer(cut=500), Answer(body=OTHER), Answer()]
    with pytest.raises(InputError, match=r"sha256 .*the damaged file was removed"):
        download(remote, path, policy=QUICK)
    assert names(path.parent) == []
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == [None, "bytes=500-", None]


def test_a_file_that_changes_its_length_is_never_mixed(server, remote, path):
    server.script["a.zip"] = [Answer(cut=500), Answer(body=OTHER + b"x")]
    with pytest.raises(InputError, match="the server has 2049 bytes, 2048 are right"):
        download(remote, path, policy=QUICK)
    assert names(path.parent) == []
    assert server.ranges("a.zip") == [None, "bytes=500-", None]


def test_a_range_that_starts_elsewhere_is_not_appended(server, remote, path):
    server.script["a.zip"] = [Answer(cut=500), Answer(shift=1), Answer()]
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == [None, "bytes=500-", None]


def test_the_next_process_continues(server, remote, path):
    leave_part(path, 2000)
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == ["bytes=2000-"]


def test_the_next_process_verifies_what_was_complete_without_a_request(server, remote, path):
    leave_part(path, len(BODY))
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.seen == []


def test_more_bytes_than_the_file_has_are_not_continued(server, remote, path):
    leave_part(path, 2050, body=BODY + b"more")
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == [None]


def test_a_killed_process_leaves_nothing_at_the_path_and_the_next_one_continues(server, remote, path):
    server.script["a.zip"] = [Answer(stall=900), Answer()]
    code = (
        "import sys; from pathlib import Path; from invad.data.official.http import Remote, download;"
        "download(Remote('a.zip', sys.argv[1], 2048, ''), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, remote.url, str(path)])
    part = path.with_name("a.zip.part")
    wait_until(lambda: part.exists() and part.stat().st_size == 900)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(path.parent) == ["a.zip.part"]
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == [None, "bytes=900-"]


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_wrong_checksum_removes_the_damaged_file(server, remote, path):
    server.script["a.zip"] = [Answer(body=OTHER)]
    with pytest.raises(InputError, match=rf"a\.zip: {re.escape(remote.url)}: sha256 .*, {SHA256} is right.*; do this"):
        download(replace(remote, hint="do this"), path, policy=QUICK)
    assert names(path.parent) == []
    assert server.requests("a.zip") == 1


def test_another_size_than_published_fails_before_a_byte_is_written(server, remote, path):
    server.script["a.zip"] = [Answer(body=BODY + b"x")]
    with pytest.raises(InputError, match="the server has 2049 bytes, 2048 are right"):
        download(remote, path, policy=QUICK)
    assert names(path.parent) == []


def test_a_body_shorter_than_announced_never_passes_for_the_file(server, remote, path):
    server.script["a.zip"] = [Answer(length=3000)]
    with pytest.raises(InputError, match="3 attempts without a new byte"):
        download(replace(remote, size=3000), path, policy=QUICK)
    assert not path.exists()


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_without_a_content_length_the_published_size_counts(server, remote, path, framing):
    server.script["a.zip"] = [Answer(cut=500, framing=framing), Answer(framing=framing)]
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    server.script["b.zip"] = [Answer(body=BODY + b"x", framing=framing)]
    with pytest.raises(InputError, match=r"2\d+ bytes, 2048 are right.*the damaged file was removed"):
        download(Remote("b.zip", server.url("b.zip"), 2048, SHA256), path.with_name("b.zip"), policy=QUICK)
    assert names(path.parent) == ["a.zip"]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418, 204])
def test_what_will_not_pass_fails_at_once_and_names_the_status(server, remote, path, status):
    server.script["a.zip"] = [Answer(status, body=b"")]
    with pytest.raises(InputError, match=rf"^a\.zip: {re.escape(remote.url)}: the server answers {status}.*; hint$"):
        download(replace(remote, hint="hint"), path, policy=QUICK)
    assert server.requests("a.zip") == 1
    assert names(path.parent) == []


def test_a_web_page_in_place_of_the_file_is_refused(server, remote, path):
    server.script["a.zip"] = [Answer(body=b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})]
    with pytest.raises(InputError, match="a web page, not the file"):
        download(remote, path, policy=QUICK)


def test_500_then_good_is_retried(server, remote, path):
    server.script["a.zip"] = [Answer(500), Answer(503), Answer()]
    download(remote, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.requests("a.zip") == 3


def test_retry_after_is_respected(server, remote, path):
    server.script["a.zip"] = [Answer(429, headers={"Retry-After": "1"}), Answer()]
    begin = time.monotonic()
    download(remote, path, policy=QUICK)
    assert time.monotonic() - begin >= 1
    assert server.requests("a.zip") == 2


def test_a_slow_server_is_no_failure(server, remote, path):
    server.script["a.zip"] = [Answer(dribble=50)]  # 0.4 s in all, longer than the timeout
    begin = time.monotonic()
    download(remote, path, policy=IMPATIENT)
    assert time.monotonic() - begin > IMPATIENT.timeout
    assert path.read_bytes() == BODY
    assert server.requests("a.zip") == 1


def test_a_stalled_server_is_left_and_continued(server, remote, path):
    server.script["a.zip"] = [Answer(stall=700), Answer()]
    download(remote, path, policy=IMPATIENT)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip") == [None, "bytes=700-"]


def test_redirects_are_followed(server, remote, path):
    server.script["old.zip"] = [Answer(302, headers={"Location": "/a.zip"})]
    download(replace(remote, url=server.url("old.zip")), path, policy=QUICK)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a.zip", "gopher://127.0.0.1"])
def test_no_other_scheme_is_followed(server, remote, path, target):
    server.script["a.zip"] = [Answer(302, headers={"Location": target})]
    for url in (target, remote.url):
        with pytest.raises(InputError, match=r"a\.zip: .*No connection adapters"):
            download(replace(remote, url=url), path, policy=QUICK)
    assert names(path.parent) == []


@pytest.mark.parametrize("url", ["a.zip", "http://", "http://[::1", "http://127.0.0.1:99999/", ""])
def test_an_address_that_is_none_is_named(path, url):
    with pytest.raises(InputError, match=r"a\.zip: "):
        download(Remote("a.zip", url, len(BODY), SHA256), path, policy=QUICK)


def test_redirects_in_a_circle_end(server, remote, path):
    server.script["a.zip"] = [Answer(302, headers={"Location": "/a.zip"})]
    with pytest.raises(InputError, match="30 redirects"):
        download(remote, path, policy=QUICK)


def test_nobody_at_the_address_is_a_bounded_wait(server, remote, path):
    with pytest.raises(InputError, match=r"a\.zip: .*no answer \(.*refused"):
        download(replace(remote, url="http://127.0.0.1:9/a.zip"), path, policy=QUICK)


def test_a_local_file_is_checked_in_place_and_nothing_is_written_beside_it(remote, tmp_path):
    local = tmp_path / "mine.zip"
    with pytest.raises(InputError, match=r"mine\.zip: no such file; expected a\.zip"):
        verify(remote, local)
    local.write_bytes(OTHER)
    with pytest.raises(InputError, match=r"mine\.zip: not the a\.zip expected: sha256 "):
        verify(remote, local)
    with pytest.raises(InputError, match="2048 bytes, 5 are right"):
        verify(replace(remote, size=5), local)
    local.write_bytes(BODY)
    verify(remote, local)
    assert names(tmp_path) == ["mine.zip"]


@pytest.fixture
def estimated(remote):
    """The same file, of which only about how large it is was known."""
    return replace(remote, size=1500, size_is_known=False)


def test_of_a_size_that_is_not_known_the_server_says_it(server, estimated, path):
    server.script["a.zip"] = [Answer(cut=500), Answer(framing="chunked", ranges=False, cut=900), Answer()]
    download(estimated, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.ranges("a.zip")[:2] == [None, "bytes=500-"]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_whole_file_of_a_size_that_is_not_known_is_whole_in_any_framing(server, estimated, path, framing):
    server.script["a.zip"] = [Answer(framing=framing, ranges=False)]
    download(estimated, path, policy=QUICK)
    assert path.read_bytes() == BODY


def test_a_part_that_is_all_of_it_is_only_verified(server, estimated, path):
    leave_part(path, len(BODY))
    download(estimated, path, policy=QUICK)
    assert path.read_bytes() == BODY
    assert server.requests("a.zip") == 1  # which answers that there is no more


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 1000}, "the server has 2048 bytes, about 1000 are expected"),
        ({"sha256": "0" * 64}, "sha256 .* is right"),
    ],
)
def test_far_too_much_and_other_bytes_are_refused(server, estimated, path, changes, message):
    with pytest.raises(InputError, match=message):
        download(replace(estimated, **changes), path, policy=QUICK)
    assert names(path.parent) == []
