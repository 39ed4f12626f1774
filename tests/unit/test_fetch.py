import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from http_server import Answer, http_server  # noqa: F401  (a fixture)

from invad.data.official.http import Remote, RetryPolicy, download, download_small, verify
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
        download(remote, path, policy=replace(QUICK, timeout=0.5), hint="give another address")
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
        download(remote, path, policy=QUICK, hint="do this")
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
        download(remote, path, policy=QUICK, hint="hint")
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


def small_files(server, folder, count):
    for index in range(count):
        server.files[f"{index}.jpg"] = index.to_bytes(2, "big") * (index + 1)
    return [(server.url(f"{index}.jpg"), folder / f"images/{index}.jpg") for index in range(count)]


def test_small_files_come_over_few_connections_and_only_the_missing_ones(server, tmp_path, capsys):
    urls = small_files(server, tmp_path, 80)
    urls[7][1].parent.mkdir()
    urls[7][1].write_bytes(b"mine")
    assert download_small(urls + urls[:5], label="images", workers=4, policy=QUICK) == 79
    assert urls[7][1].read_bytes() == b"mine"
    for index in {*range(80)} - {7}:
        assert urls[index][1].read_bytes() == server.files[f"{index}.jpg"]
    assert names(tmp_path / "images") == sorted(path.name for _, path in urls)
    assert len(server.seen) == 79
    assert server.connections == 4
    assert "80/80" in capsys.readouterr().err
    assert download_small(urls, label="images", policy=QUICK) == 0


def test_small_files_are_whole_or_not_there(server, tmp_path):
    urls = small_files(server, tmp_path, 3)
    server.script["1.jpg"] = [Answer(cut=1), Answer(500), Answer()]
    assert download_small(urls, label="images", policy=QUICK) == 3
    assert urls[1][1].read_bytes() == server.files["1.jpg"]
    assert server.requests("1.jpg") == 3
    for answer in (Answer(cut=2), Answer(length=9), Answer(stall=1)):
        urls[2][1].unlink(missing_ok=True)
        server.script["2.jpg"] = [answer]
        with pytest.raises(InputError, match=r"2\.jpg: http://.*3 attempts"):
            download_small(urls, label="images", policy=replace(QUICK, timeout=0.05))
        assert names(tmp_path / "images") == ["0.jpg", "1.jpg"]


def test_a_missing_small_file_stops_the_rest_and_names_its_address(server, tmp_path):
    urls = small_files(server, tmp_path, 500)
    server.script["20.jpg"] = [Answer(404)]
    with pytest.raises(InputError, match=rf"^20\.jpg: {re.escape(urls[20][0])}: the server answers 404.*; hint$"):
        download_small(urls, label="images", workers=4, policy=QUICK, hint="hint")
    assert 0 < len(names(tmp_path / "images")) < 400
    time.sleep(0.1)  # what was under way
    seen = len(server.seen)
    time.sleep(0.1)
    assert len(server.seen) == seen


def test_an_error_does_not_wait_for_a_server_that_says_nothing(server, tmp_path):
    urls = small_files(server, tmp_path, 2)
    server.script["0.jpg"] = [Answer(stall=0)]
    server.script["1.jpg"] = [Answer(403)]
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"^1\.jpg: .*403"):
        download_small(urls, label="x")  # timeout 30 s
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize("answer", [Answer(framing="close"), Answer(framing="chunked")])
def test_a_small_file_that_cannot_be_checked_is_refused(server, tmp_path, answer):
    urls = small_files(server, tmp_path, 1)
    server.script["0.jpg"] = [answer]
    with pytest.raises(InputError, match=r"0\.jpg: .*the server"):
        download_small(urls, label="images", policy=QUICK)
    assert not urls[0][1].exists()


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_the_threads(server, tmp_path):
    urls = small_files(server, tmp_path, 300)
    server.script = {name: [Answer(dribble=1)] for name in server.files}
    server.script["299.jpg"] = [Answer()]
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        download_small(urls, label="images", workers=4, policy=QUICK)
    timer.join()
    time.sleep(0.1)  # what was under way
    seen = len(server.seen)
    time.sleep(0.1)
    assert len(server.seen) == seen < 300
    assert not [name for name in names(tmp_path / "images") if name.endswith(".tmp")]
