"""The process between an instance and what it runs as processes: it starts them, and ends all of each.

A program of its own, of the standard library only, so that it is small and up within milliseconds. One for
each instance, started with its first command and kept: starting a Python for each command would cost tens of
milliseconds of CPU.

```
instance ──socket── supervisor ──fork── keeper ──fork── command ── whatever it starts
                        └────────────── keeper ──fork── command
```

Why a supervisor: a killed instance (-9) can end nothing any more, and Linux's parent-death signal cannot
stand in for it. It goes to the direct child only (not to what `/bin/sh` starts), and fires when the *thread*
that forked ends. Here the end of the instance is the end of file on the socket, which no way of dying can
avoid; a copy of the socket in a forked child of the instance would hide it, so the parent's id is looked at
once a second as well.

Why a keeper for each command: a process that daemonises (`setsid`, a double fork) leaves its process group
and its parents behind. A keeper is a subreaper: whoever loses a parent below it becomes its child, and no
other command's. So all descendants of a keeper are its command's, and when it has no child left, all are
gone. Where there is no such thing (macOS) the process group has to do, and a daemon gets away. What was not
started by the command but by another service on its behalf (`systemd-run`, `at`, `docker run`) is not among
its descendants, and root's processes cannot be signalled.

Whoever dies: the instance: every command gets SIGTERM, and SIGKILL after its `kill_after`. The supervisor:
keepers see the end of file and kill at once. A keeper: its `/bin/sh` has the parent-death signal, the rest
becomes the supervisor's, which kills it. All of them: the instance kills the process groups.

Why one thread and fork: `preexec_fn` is safe only in a process without threads, and the parent-death signal
wants a thread that lives as long as the process.

Frames in both directions are a length (4 bytes, big endian) and JSON. From the instance:
`{"op": "start", "id", "command", "env", "cwd", "kill_after"}`, with the file descriptor that becomes stdout
and stderr beside it, and `{"op": "stop", "id", "after"}`. To the instance: `{"id", "pid"}`, then
`{"id", "code"}` (negative: a signal), then `{"id", "gone"}`; or `{"id", "error"}`.
"""
