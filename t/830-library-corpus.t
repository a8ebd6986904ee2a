# SPDX-License-Identifier: Apache-2.0
# What isolation must not break: real programs and libraries say the same inside a namespace and outside of it, as a
# user without privileges, and are refused no system call on the way. Tracers are refused, cleanly.
#
# A program that is not installed is a failure here, not a skip: tools/deps --tests brings them all. Most of them get
# more memory and /tmp than the default policy has, because they are many; `plain` are those that must do with it.
use lib 't/lib';
use Brood;
use File::Temp qw(tempdir);

require_layer('root');
my %corpus;
my @order;
sub corpus { my ($name, $needs, $script, $plain) = @_; push @order, $name; $corpus{$name} = [$needs, $script, $plain]; return }

corpus('python threads', 'python3', <<'SH');
python3 - <<'PY'
import threading, queue, concurrent.futures as f
q, lock, n = queue.Queue(), threading.Lock(), [0]
def work():
    while (x := q.get()) is not None:
        with lock: n[0] += x
threads = [threading.Thread(target=work) for _ in range(16)]
[t.start() for t in threads]; [q.put(i) for i in range(5000)]; [q.put(None) for _ in threads]; [t.join() for t in threads]
with f.ThreadPoolExecutor(8) as pool: print(n[0], sum(pool.map(lambda x: x * x, range(1000))))
PY
SH
corpus('python multiprocessing', 'python3', <<'SH');
cat > mp.py <<'PY'
import multiprocessing as mp, multiprocessing.shared_memory as sm
def square(x): return x * x
def fill(name): s = sm.SharedMemory(name); s.buf[:4] = b'done'; s.close()
if __name__ == '__main__':
    for how in 'fork', 'spawn', 'forkserver':
        with mp.get_context(how).Pool(3) as pool: print(how, sum(pool.map(square, range(200))))
    s = sm.SharedMemory(create=True, size=4096); p = mp.Process(target=fill, args=(s.name,)); p.start(); p.join()
    print(bytes(s.buf[:4]), p.exitcode); s.close(); s.unlink()
    v = mp.Value('i', 0); ps = [mp.Process(target=lambda: [setattr(v, 'value', v.value + 1) for _ in [v.get_lock().__enter__()]] and v.get_lock().__exit__()) for _ in range(4)]
    [p.start() for p in ps]; [p.join() for p in ps]; print(v.value)
PY
python3 mp.py
SH
corpus('python subprocess', 'python3', <<'SH');
python3 - <<'PY'
import subprocess as s, os, signal
print(s.run(['tr', 'a-z', 'A-Z'], input=b'hello', capture_output=True).stdout, s.run('exit 7', shell=True).returncode)
p = s.Popen(['sleep', '60'], start_new_session=True); p.terminate(); print(p.wait() == -signal.SIGTERM)
print(s.run(['cat'], stdin=s.Popen(['seq', '100000'], stdout=s.PIPE).stdout, capture_output=True).stdout[-7:])
try: s.run(['sleep', '9'], timeout=.1)
except s.TimeoutExpired: print('in time')
r, w = os.pipe(); pid = os.posix_spawn('/bin/echo', ['echo', 'spawned'], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, w, 1)]); os.waitpid(pid, 0); print(os.read(r, 99))
PY
SH
corpus('python asyncio', 'python3', <<'SH');
python3 - <<'PY'
import asyncio, socket
async def serve(r, w): w.write((await r.readline()).upper()); await w.drain(); w.close()
async def ask(port, i): r, w = await asyncio.open_connection('127.0.0.1', port); w.write(b'n%d\n' % i); return await r.readline()
async def main():
    s = await asyncio.start_server(serve, '127.0.0.1', 0); port = s.sockets[0].getsockname()[1]
    print(b''.join(await asyncio.gather(*(ask(port, i) for i in range(50)))))
    p = await asyncio.create_subprocess_exec('wc', '-c', stdin=-1, stdout=-1); print(await p.communicate(b'x' * 100000))
    print(await asyncio.to_thread(sum, range(1000)), sorted(set(a[0].name for a in socket.getaddrinfo('127.0.0.1', 80))))
asyncio.run(main())
PY
SH
corpus('python files', 'python3', <<'SH');
python3 - <<'PY'
import sqlite3, mmap, tempfile, select, signal, fcntl, os, time, json, zlib, hashlib, ctypes, zoneinfo, resource, selectors
d = sqlite3.connect('t.db'); d.execute('pragma journal_mode=wal'); d.execute('create table t(a, b)')
with d: d.executemany('insert into t values(?,?)', ((i, str(i)) for i in range(10000)))
print(d.execute('select count(*), sum(a) from t').fetchall())
with tempfile.NamedTemporaryFile() as f:
    f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 0); m[99:104] = b'there'; m.flush(); print(os.pread(f.fileno(), 5, 99)); fcntl.flock(f, fcntl.LOCK_EX)
signal.signal(signal.SIGALRM, lambda *a: print('alarm')); signal.setitimer(signal.ITIMER_REAL, .01); time.sleep(.1)
e = select.epoll(); r, w = os.pipe(); e.register(r, select.EPOLLIN); os.write(w, b'x'); print(e.poll(1)[0][1], hashlib.sha256(zlib.compress(b'x' * 99999)).hexdigest())
s = os.eventfd(3); print(os.eventfd_read(s), os.memfd_create('x') > 0, os.copy_file_range(os.open('t.db', 0), os.open('u.db', os.O_CREAT | os.O_WRONLY), 999), len(os.sched_getaffinity(0)) > 0)
os.symlink('t.db', 'l'); os.link('t.db', 'h'); print(os.readlink('l'), os.stat('h').st_nlink, os.getxattr and os.listxattr('t.db'), ctypes.CDLL(None).getppid() > 0)
PY
SH
corpus('python ssl', 'python3 openssl', <<'SH');
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
python3 - <<'PY'
import ssl, socket, threading
c = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH); c.load_cert_chain('cert.pem', 'key.pem')
l = socket.create_server(('127.0.0.1', 0))
def serve():
    with c.wrap_socket(l.accept()[0], server_side=True) as s: s.sendall(s.recv(99).upper())
t = threading.Thread(target=serve); t.start()
with ssl.create_default_context(cafile='cert.pem').wrap_socket(socket.create_connection(l.getsockname()), server_hostname='localhost') as s: s.sendall(b'over tls'); print(s.recv(99), s.version())
t.join(); print(len(ssl.RAND_bytes(32)))
PY
SH
corpus('numpy', 'python3', <<'SH');
python3 -c 'import numpy as n
a = n.arange(90000.0).reshape(300, 300) % 17; u, s, v = n.linalg.svd(a); print(n.allclose(u @ n.diag(s) @ v, a), round(float(s[0]), 6)); m = n.memmap("m", dtype="f8", mode="w+", shape=1000); m[:] = 2; m.flush(); print(m.sum())'
SH
corpus('node', 'node', <<'SH');
cat > w.js <<'JS'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (!isMainThread) { let n = 0; for (let i = 0; i < workerData; i++) n += i; parentPort.postMessage(n); return; }
const { execFileSync } = require('child_process'), fs = require('fs'), http = require('http'), crypto = require('crypto');
(async () => {
  console.log(await Promise.all([1e5, 2e5, 3e5, 4e5].map(n => new Promise((ok, no) => new Worker(__filename, { workerData: n }).on('message', ok).on('error', no)))));
  console.log(execFileSync('tr', ['a-z', 'A-Z'], { input: 'child' }).toString());
  await fs.promises.writeFile('f', 'x'.repeat(1e6)); console.log((await fs.promises.stat('f')).size);
  const s = http.createServer((q, a) => a.end(q.url)).listen(0, '127.0.0.1', () => http.get({ port: s.address().port, host: '127.0.0.1', path: '/got' }, a => a.on('data', d => { console.log(d.toString()); s.close(); })));
  console.log(crypto.scryptSync('a', 'b', 16).toString('hex'));
})();
JS
node w.js
SH
corpus('git', 'git', <<'SH');
export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
git init -q -b main r && cd r && git config user.name a && git config user.email a@b
seq 1000 > f && git add f && git commit -qm one && git checkout -qb side && seq 1001 > f && git commit -qam two && git checkout -q main && echo x > g && git add g && git commit -qm three
git merge -q side -m four && git gc -q && git log --oneline --graph && git fsck && git worktree add -q ../w && git -C ../w status --short && git clone -q . ../c && git -C ../c rev-parse HEAD
SH
corpus('gcc, g++, make', 'gcc g++ make', <<'SH');
cat > m.c <<'C'
#include <pthread.h>
#include <stdio.h>
static int n; static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *work(void *p) { for (int i = 0; i < 10000; i++) { pthread_mutex_lock(&m); n++; pthread_mutex_unlock(&m); } return p; }
int main(void) { pthread_t t[8]; for (int i = 0; i < 8; i++) pthread_create(&t[i], 0, work, 0); for (int i = 0; i < 8; i++) pthread_join(t[i], 0); printf("%d\n", n); }
C
cat > p.cc <<'C'
#include <future>
#include <iostream>
#include <regex>
#include <filesystem>
int main() { auto f = std::async(std::launch::async, [] { return std::regex_replace(std::string("a-b"), std::regex("-"), "+"); }); try { throw 7; } catch (int x) { std::cout << f.get() << x << std::filesystem::exists("p.cc") << std::endl; } }
C
printf 'all: m p\n\t./m\n\t./p\nm: m.c\n\tgcc -O2 -pthread -o $@ $<\np: p.cc\n\tg++ -std=c++17 -O2 -pthread -o $@ $<\n' > Makefile
make -s -j2 all
SH
corpus('java', 'java javac', <<'SH');
cat > M.java <<'J'
import java.util.concurrent.*; import java.util.stream.*; import java.nio.file.*;
public class M { public static void main(String[] a) throws Exception {
  ExecutorService e = Executors.newFixedThreadPool(4); Future<Long> f = e.submit(() -> LongStream.range(0, 1000000).parallel().sum());
  Files.writeString(Path.of("j"), "file"); Process p = new ProcessBuilder("echo", "child").start();
  System.out.println(f.get() + Files.readString(Path.of("j")) + new String(p.getInputStream().readAllBytes()) + p.waitFor()); e.shutdown();
  try (var s = new java.net.ServerSocket(0, 1, java.net.InetAddress.getLoopbackAddress()); var c = new java.net.Socket(s.getInetAddress(), s.getLocalPort())) { System.out.println(c.isConnected()); }
  System.gc(); } }
J
javac M.java && java -Xmx128m M
SH
# Go needs HOME (or GOCACHE) for its cache and 16 processes; 64 MiB do for this one, 200 to build the standard library anew.
corpus('go build', 'go', <<'SH', 'plain');
mkdir m && cd m && printf 'module example.test/m\n\ngo 1.19\n' > go.mod && mkdir sum && cat > sum/sum.go <<'GO'
package sum

func Of(ns []int) (n int) {
	for _, x := range ns {
		n += x
	}
	return
}
GO
cat > sum/sum_test.go <<'GO'
package sum

import "testing"

func TestOf(t *testing.T) {
	if Of([]int{1, 2, 3}) != 6 {
		t.Fatal("wrong")
	}
}
GO
cat > main.go <<'GO'
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.test/m/sum"
)

type row struct {
	Name string `json:"name"`
	N    int    `json:"n,omitempty"`
}

func main() {
	var wg sync.WaitGroup
	rows, made := make([]row, 500), make(chan int, 8)
	for i := range rows {
		wg.Add(1)
		go func(i int) { defer wg.Done(); rows[i] = row{fmt.Sprint("r", i), i * i}; made <- i }(i)
	}
	go func() { wg.Wait(); close(made) }()
	var ns []int
	for n := range made {
		ns = append(ns, n)
	}
	out, err := json.Marshal(rows[:3])
	var back []row
	fmt.Println(string(out), err, json.Unmarshal(out, &back), len(back), sum.Of(ns))
	cmd := exec.Command("tr", "a-z", "A-Z")
	cmd.Stdin, cmd.Stdout = strings.NewReader("from a child\n"), os.Stdout
	fmt.Println(cmd.Run(), exec.Command("sh", "-c", "exit 7").Run())
	locked := make(chan bool)
	for i := 0; i < 6; i++ { // threads of the kernel, not only goroutines
		go func() { runtime.LockOSThread(); time.Sleep(time.Millisecond); locked <- true }()
	}
	for i := 0; i < 6; i++ {
		<-locked
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	fmt.Println(<-term, os.WriteFile("f", []byte("kept"), 0o600))
	_, err = os.Stat("none")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	runtime.GC()
	defer func() { fmt.Println("recovered:", recover()) }()
	var nobody *row
	fmt.Println(nobody.N)
}
GO
go vet ./... && go build -o p . && ./p && go build -o p . && go run . | tail -n 1 && go test ./sum | sed 's/[0-9.]*s$//'
SH
corpus('ruby', 'ruby', <<'SH', 'plain');
cat > r.rb <<'RB'
require 'json'; require 'open3'; require 'socket'; require 'tmpdir'; require 'digest'; require 'timeout'
q = Queue.new; t = 4.times.map { Thread.new { n = 0; while (x = q.pop) != :end; n += x; end; n } }
1000.times { |i| q << i }; 4.times { q << :end }; puts t.sum(&:value)
puts Open3.capture2('tr', 'a-z', 'A-Z', stdin_data: 'child')[0], `echo $((6 * 7))`, JSON.generate({a: [1, nil, 'x']})
r, w = IO.pipe; pid = fork { w.puts 'forked'; exit! 3 }; Process.wait(pid); puts r.gets, $?.exitstatus
s = TCPServer.new('127.0.0.1', 0); Thread.new { c = s.accept; c.puts c.gets.upcase; c.close }
c = TCPSocket.new('127.0.0.1', s.addr[1]); c.puts 'over tcp'; puts c.gets
Dir.mktmpdir { |d| File.write("#{d}/f", 'x' * 100000); puts Digest::SHA256.file("#{d}/f").hexdigest }
begin; Timeout.timeout(0.05) { sleep }; rescue Timeout::Error; puts 'in time'; end
puts Ractor.new { (1..100).sum }.take, Fiber.new { Fiber.yield 1 }.resume, GC.start.inspect
RB
ruby -W0 r.rb
SH
corpus('php', 'php', <<'SH', 'plain');
cat > p.php <<'PHP'
<?php
echo json_encode(['a' => [1, null, 'x']]), hash('sha256', str_repeat('x', 100000)), "\n", trim(shell_exec('echo $((6 * 7))')), "\n";
$p = proc_open(['tr', 'a-z', 'A-Z'], [['pipe', 'r'], ['pipe', 'w']], $io); fwrite($io[0], 'child'); fclose($io[0]); echo stream_get_contents($io[1]), proc_close($p), "\n";
$s = stream_socket_server('tcp://127.0.0.1:0'); $c = stream_socket_client('tcp://' . stream_socket_get_name($s, false)); $a = stream_socket_accept($s); fwrite($c, "over tcp\n"); echo fgets($a);
$f = tempnam(sys_get_temp_dir(), 'p'); file_put_contents($f, str_repeat('x', 100000), LOCK_EX); echo filesize($f), unlink($f) ? " gone\n" : "\n";
function g() { foreach (range(1, 5) as $i) yield $i => $i ** 2; } echo array_sum(iterator_to_array(g())), "\n"; $fi = new Fiber(fn() => Fiber::suspend('fiber')); echo $fi->start(), "\n";
echo implode(' ', array_map(fn($x) => $x * 2, array_filter([1, 2, 3], fn($x) => $x > 1))), "\n"; try { intdiv(1, 0); } catch (DivisionByZeroError $e) { echo get_class($e), "\n"; } echo preg_replace('/(\w+)/u', '<$1>', 'ab cd'), "\n";
PHP
php p.php
SH
corpus('perl DBI', 'perl', <<'SH');
perl -MDBI -MPOSIX -MSocket -e '$d = DBI->connect("dbi:SQLite:dbname=p.db", "", "", {RaiseError => 1}); $d->do("create table t(a)"); $d->begin_work; $d->do("insert into t values(?)", {}, $_) for 1 .. 1000; $d->commit; print $d->selectrow_array("select sum(a) from t"), "\n"; socketpair $a, $b, AF_UNIX, SOCK_STREAM, 0; if (!fork) { syswrite $b, "child"; exit 3 } wait; sysread $a, $x, 9; print $x, $? >> 8, "\n"; open $p, "-|", "sort", "-rn", "/dev/null"; close $p; print "$?\n"'
SH
corpus('archives', 'tar xz zstd gzip bzip2', <<'SH');
mkdir d && seq 200000 > d/a && ln -s a d/l && ln d/a d/h && mkfifo d/p && chmod 640 d/a
for z in -J --zstd -z -j; do tar $z -cf a.tar d && mkdir -p o && tar $z -xf a.tar -C o && sha256sum < o/d/a && readlink o/d/l && stat -c '%a %h %F' o/d/*; rm -rf o; done
xz -T2 -k d/a && xz -dc d/a.xz | cmp - d/a && zstd -q -T2 d/a -o z && zstd -dcq z | cmp - d/a && echo same
SH
corpus('jq', 'jq', q(seq 1000 | jq -sc '[add, (map(select(. % 7 == 0)) | length), ("x" | test("^x$"))]'));
corpus('sqlite3', 'sqlite3', q(sqlite3 s.db 'pragma journal_mode=wal; create table t(a); with recursive c(x) as (select 1 union all select x + 1 from c where x < 50000) insert into t select x from c; create index i on t(a); select sum(a), count(*) from t where a > 100; pragma integrity_check; vacuum;'));
corpus('openssl', 'openssl', q(echo data > f; openssl genpkey -algorithm ed25519 -out k && openssl pkey -in k -pubout -out p && openssl pkeyutl -sign -rawin -inkey k -in f -out s && openssl pkeyutl -verify -rawin -pubin -inkey p -in f -sigfile s; openssl dgst -sha512 f; openssl enc -aes-256-cbc -pbkdf2 -k x -S 0102030405060708 -in f | od -An -tx1));
corpus('shell tools', 'find awk', q(seq 20000 | sort -R | sort -n --parallel=4 -S 1M | awk '{n += $1} END {print n}'; seq 100 | xargs -P 8 -n 5 sh -c 'echo $#' | sort | uniq -c; mkdir -p a/b/c; touch a/b/c/f; find a | sort; timeout 0.1 sleep 9; echo $?; (trap 'echo term' TERM; kill $BASHPID; :); nice -n 5 nice; dd if=/dev/zero of=z bs=64k count=16 conv=fsync status=none; stat -c %s z; mktemp -d -p . | wc -l; flock z echo locked));
corpus('script', 'script', q(script -qec 'tty | sed "s/[0-9]*$//"; stty size; echo on a terminal' /dev/null < /dev/null | tr -d '\r'));
corpus('python pty', 'python3', q(python3 -c 'import pty, os
pid, fd = pty.fork()
if not pid: os.execlp("sh", "sh", "-c", "test -t 0 && test -t 1 && echo both && sleep 0.1 & wait")
out = b""
try:
    while d := os.read(fd, 999): out += d
except OSError: pass
print(out, os.waitpid(pid, 0)[1])'));
corpus('tmux', 'tmux', q(export SHELL=/bin/bash TMUX_TMPDIR=$PWD TERM=xterm LC_ALL=C.UTF-8; tmux -L t -f /dev/null new -d -x 80 -y 24 'echo in a pane > out; tmux -L t wait -S done; sleep 60' && tmux -L t wait done && cat out && tmux -L t ls -F '#{window_width}x#{window_height}' && tmux -L t kill-server; echo $?));

my $brood = Brood->start('limits-memory' => '1024M', 'limits-tmp' => '256M', 'runs-timeout-max' => '120s');
my $plain = Brood->start('runs-timeout-max' => '120s');

# As nobody, in an empty directory, with the environment of a run: {stdout, stderr, exit_code}.
sub outside {
    my ($script) = @_;
    my $home = tempdir('brood-corpus-XXXXXX', DIR => '/tmp', CLEANUP => 1);
    chown 65534, 65534, $home;
    spew("$home/.script", "cd $home\n$script");
    my $out = qx(env -i HOME=$home USER=user PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 setpriv --reuid 65534 --regid 65534 --clear-groups timeout -k 1 120 bash $home/.script 2>$home/.stderr </dev/null);
    return {stdout => $out, exit_code => $? >> 8, stderr => slurp("$home/.stderr")};
}

my %there = map { ($_ => 1) } grep { my $p = $_; grep { -x "$_/$p" } qw(/usr/bin /bin /usr/sbin) } map { split ' ', $corpus{$_}[0] } @order;
my @compared;
for my $name (@order) {
    my ($needs, $script, $is_plain) = @{$corpus{$name}};
    my @missing = grep { !$there{$_} } split ' ', $needs;
    @missing and fail("$name: @missing is not installed") and next;
    my $inside = ($is_plain ? $plain : $brood)->sh("corpus-" . scalar(@compared), $script, timeout => 120);
    my $outside = outside($script);
    push @compared, $name;
    my $same = is($inside->{stdout}, $outside->{stdout}, "$name: says the same inside");
    $same &= is($inside->{exit_code}, 0, '... exits with 0');
    $same &= is($outside->{exit_code}, 0, '... control: outside, too');
    $same &= is(join(' ', @{$inside->{denied} // ['?']}), '', '... and was refused nothing');
    diag("inside: $inside->{stderr}\noutside: $outside->{stderr}") unless $same && length $inside->{stdout};
    ok(length $inside->{stdout}, '... control: it said something');
}
cmp_ok(scalar @compared, '>=', 23, scalar(@compared) . ' programs were compared');

# SECURITY.md, "System calls": no tracing, not even of an own child. It must be said, at once, and leave nothing.
for (['strace', 'strace -o /dev/null true'], ['gdb', 'gdb -q -nx -batch -ex run /bin/true < /dev/null']) {
    my ($name, $cmd) = @$_;
    $there{$name} //= -x "/usr/bin/$name" or fail("$name is not installed") and next;
    my $r = $brood->sh(tracer => "$cmd; echo exit \$?", timeout => 60);
    like($r->{stderr}, qr/Operation not permitted/, "$name says why it cannot");
    unlike($r->{stdout}, qr/exit 0/, 'and fails') if $name eq 'strace';
    is($r->{reason}, 'exit', 'by itself');
    like(join(' ', @{$r->{denied}}), qr/\bptrace\b/, 'the facts name the call');
}

$_->stop for $brood, $plain;
done_testing;
