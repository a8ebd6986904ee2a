#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t/lib/courier_drive - the frontend's end of the courier's socket (courier/courier.h), for tests.

    courier_drive.py COMMAND...     starts it with the socket at 3; then a JSON line in is an ask, a line out is an answer

An ask: {"url", "body", "tag", "delivery", "timestamp", "signature", "flaw"}; or {"kill": true}: it is killed and started anew.
"""
import fcntl, json, os, select, signal, socket, struct, subprocess, sys

MAGIC, ASK, ANSWER = 0x31726362, '<IIIIQ40s24s72s', '<IIQIIII96s'
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def start():
    def place():
        os.dup2(theirs.fileno(), 3)
    return subprocess.Popen(sys.argv[1:], preexec_fn=place, close_fds=False)


def ask(a):
    url, body = a['url'].encode('latin-1'), a.get('body', '{}').encode()
    fd = os.memfd_create('ask', os.MFD_ALLOW_SEALING)
    os.write(fd, url + body)
    if a.get('flaw') != 'unsealed':
        fcntl.fcntl(fd, 1033, 0xf)
    packet = struct.pack(ASK, MAGIC, len(url), len(body) + (a.get('flaw') == 'long'), 0, a['tag'],
                         a.get('delivery', f"dlv_{a['tag']}").encode(), a.get('timestamp', '1').encode(), a.get('signature', 'v1=00').encode())
    socket.send_fds(ours, [packet[:-1] if a.get('flaw') == 'short' else packet], [] if a.get('flaw') == 'bare' else [fd])
    os.close(fd)


def show(packet):
    magic, kind, tag, status, complete, ms, _, text = struct.unpack(ANSWER, packet)
    print(json.dumps({'kind': {1: 'hello', 2: 'answer'}.get(kind), 'tag': tag, 'status': status, 'complete': complete, 'ms': ms,
                      'text': text.rstrip(b'\0').decode('latin-1')}), flush=True)


child = start()
print(json.dumps({'pid': child.pid}), flush=True)
pending = b''
while True:
    ready, _, _ = select.select([ours, sys.stdin.buffer], [], [])
    if ours in ready:
        show(ours.recv(4096))
    if sys.stdin.buffer in ready:
        more = os.read(0, 65536)
        if not more:
            break
        *lines, pending = (pending + more).split(b'\n')
        for line in map(json.loads, lines):
            if 'kill' in line:
                child.send_signal(signal.SIGKILL)
                child.wait()
                child = start()
                print(json.dumps({'pid': child.pid}), flush=True)
            else:
                ask(line)
child.kill()
