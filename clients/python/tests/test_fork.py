"""A forked process opens its own connections."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from exact_limiter.testing import LimiterService

#: Runs in its own process: the test's process has threads and must not be forked.
PROGRAM = """
import asyncio, os, sys
from exact_limiter import AsyncLimiter, Limiter

url, token, kind = sys.argv[1:]

def sockets():
    return {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")}

if kind == "Limiter":
    client = Limiter(url, token, deadline_seconds=30)
    def check(user):
        return client.check("trial", {"user": user})
else:
    client = AsyncLimiter(url, token, deadline_seconds=30, transport=kind.split(", ")[1])
    loop = asyncio.new_event_loop()
    def check(user):
        return loop.run_until_complete(client.check("trial", {"user": user}))

check("parent")
inherited = sockets()
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        if kind != "Limiter":
            # A loop can't run in two processes: they share its selector.
            loop = asyncio.new_event_loop()
        code = 0
        for i in range(20):
            decision = check(f"child_{number}")
            if decision.degraded or decision.limits[0].key != f"user:child_{number}":
                code = 1
        if not sockets() - inherited:
            code = 2
        os._exit(code)
    children.append(pid)
for i in range(20):
    decision = check("parent")
    assert not decision.degraded and decision.limits[0].key == "user:parent", decision
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert codes == [0, 0, 0], codes
assert sockets() == inherited, "the parent must keep its connection"
"""


@pytest.mark.parametrize("kind", ["Limiter", "AsyncLimiter, http", "AsyncLimiter, session"])
def test_children_and_parent_each_get_their_own_responses(limiter: LimiterService, kind: str) -> None:
    command = [sys.executable, "-c", PROGRAM, limiter.url, limiter.token, kind]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert (ended.returncode, ended.stderr) == (0, "")


#: All threads of the child call at once. The spy records any use of the parent's connections or loops.
THREADS_PROGRAM = """
import asyncio, os, sys, threading, time
from exact_limiter import AsyncLimiter, Limiter

url, token, kind = sys.argv[1:]
client = (Limiter if kind == "Limiter" else AsyncLimiter)(url, token, deadline_seconds=30)

def check(user):
    call = client.check("trial", {"user": user})
    return call if kind == "Limiter" else asyncio.run(call)

check("parent")
inherited = client._connections if kind == "Limiter" else client._loops
begin = client._init_process_state
begins = []

def slowly():
    begins.append(1)
    time.sleep(0.2)
    begin()

client._init_process_state = slowly
pid = os.fork()
if pid == 0:
    strangers = []
    if kind == "Limiter":
        send = inherited.send
        inherited.send = lambda request, seconds: strangers.append(request) or send(request, seconds)
    else:
        current = inherited.current
        inherited.current = lambda: strangers.append(1) or current()
    keys = []
    def go(number):
        keys.append((check(f"child_{number}").limits[0].key, f"user:child_{number}"))
    threads = [threading.Thread(target=go, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    is_right = len(keys) == 6 and all(counted == expected for counted, expected in keys)
    os._exit(0 if is_right and strangers == [] and len(begins) == 1 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("kind", ["Limiter", "AsyncLimiter"])
def test_no_thread_of_a_child_uses_the_state_of_the_parent(limiter: LimiterService, kind: str) -> None:
    command = [sys.executable, "-c", THREADS_PROGRAM, limiter.url, limiter.token, kind]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert (ended.returncode, ended.stderr) == (0, "")
