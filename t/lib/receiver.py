#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t/lib/receiver - the other side of webhooks: an HTTP server, a TLS server and a name server, all of them strange on demand.

    receiver.py DIR        (started by Brood::Receivers in a network namespace of its own)

DIR/zone.json: {"name": ["address", ...] | "silent" | {"then": [[..], [..]]}}, read anew for each question. DIR/pem: key and
certificates of port 443; DIR/wrong.pem: those of 444. Each request is a line of DIR/requests. What is answered is in the path:
/ok /status/N /fail/N (500 N times, then 200) /hang /redirect?to /huge /drip /drip-head /heads /close.
"""
import http.server, json, os, socket, socketserver, ssl, struct, sys, threading, time, urllib.parse

where = sys.argv[1]
lock = threading.Lock()
seen = {}


def note(what):
    with lock, open(f'{where}/requests', 'a') as out:
        out.write(json.dumps(what) + '\n')


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def raw(self, *parts, pause=0):
        for part in parts:
            self.wfile.write(part)
            self.wfile.flush()
            time.sleep(pause)

    def say(self, status, body=b'', **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        with lock:
            seen[self.path] = seen.get(self.path, 0) + 1
            count = seen[self.path]
        note({'method': self.command, 'path': self.path, 'host': self.headers.get('Host'), 'to': self.connection.getsockname()[0],
              'headers': {k.lower(): v for k, v in self.headers.items()}, 'body': body.decode(), 'time': time.time(), 'count': count})
        path, _, query = self.path.partition('?')
        words = path.strip('/').split('/')
        try:
            self.answer(words, query, count)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass

    def answer(self, words, query, count):
        if words[0] == 'status':
            self.say(int(words[1]))
        elif words[0] == 'fail':
            self.say(500 if count <= int(words[1]) else 200)
        elif words[0] == 'hang':
            time.sleep(600)
        elif words[0] == 'redirect':
            self.say(307, Location=urllib.parse.unquote(query))
        elif words[0] == 'huge':
            self.raw(b'HTTP/1.1 200 OK\r\n\r\n')
            while True:
                self.raw(b'x' * 65536)
        elif words[0] == 'drip':
            self.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n', *[b'x'] * 1000, pause=0.2)
        elif words[0] == 'drip-head':
            self.raw(b'HTTP/1.1 200 OK\r\nX: ', *[b'x'] * 1000, pause=0.2)
        elif words[0] == 'heads':
            self.raw(b'HTTP/1.1 200 OK\r\n', *[b'X-%d: y\r\n' % i for i in range(100000)])
        elif words[0] == 'close':
            pass
        else:
            self.say(204)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    address_family = socket.AF_INET

    def handle_error(self, request, address):
        pass


class TlsServer(Server):
    """The handshake is the thread's matter, not the listener's."""

    def finish_request(self, request, address):
        request.settimeout(20)
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, address)


def start_server(port, pem=None):
    server = (TlsServer if pem else Server)(('0.0.0.0', port), Handler)
    if pem:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(pem)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def read_name(packet, at):
    labels = []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return '.'.join(labels).lower(), at + 1


def addresses_of(name, kind):
    with open(f'{where}/zone.json') as zone:
        entry = json.load(zone).get(name)
    if isinstance(entry, dict):
        with lock:
            key = f'dns {name} {kind}'
            seen[key] = seen.get(key, 0) + 1
            entry = entry['then'][min(seen[key], len(entry['then'])) - 1]
    return entry


def answer_question(packet):
    name, at = read_name(packet, 12)
    kind = struct.unpack('>H', packet[at:at + 2])[0]
    found = addresses_of(name, kind)
    note({'dns': name, 'kind': kind})
    if found == 'silent':
        return None
    answers = []
    for text in found or []:
        family = socket.AF_INET6 if ':' in text else socket.AF_INET
        if (kind == 28) == (family == socket.AF_INET6) and kind in (1, 28):
            data = socket.inet_pton(family, text)
            answers.append(struct.pack('>HHHIH', 0xc00c, kind, 1, 0, len(data)) + data)
    flags = 0x8180 if found is not None else 0x8183
    return packet[:2] + struct.pack('>HHHHH', flags, 1, len(answers), 0, 0) + packet[12:at + 4] + b''.join(answers)


def serve_names():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(('0.0.0.0', 53))
    while True:
        packet, peer = sock.recvfrom(2048)
        answer = answer_question(packet)
        if answer:
            sock.sendto(answer, peer)


for port in (80, 8080):
    start_server(port)
if os.path.exists(f'{where}/pem'):
    start_server(443, f'{where}/pem')
    start_server(444, f'{where}/wrong.pem')
threading.Thread(target=serve_names, daemon=True).start()
note({'ready': True})
threading.Event().wait()
