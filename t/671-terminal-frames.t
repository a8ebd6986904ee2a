# SPDX-License-Identifier: Apache-2.0
# Frames that RFC 6455 forbids, or that are too much: each connection is closed with the code that says why, and nothing
# else suffers. What a client sends decides nothing about the frontend's memory.
use lib 't/lib';
use Brood;
use Brood::Ws;
use Mojo::JSON qw(encode_json);

my $brood = Brood->start('terminals-per-namespace' => 64);
my $path = '/v1/namespaces/mallory/terminal?name=t';
use constant {TEXT => 1, BINARY => 2, CLOSE => 8, PING => 9, PONG => 10};

sub enter {
    my $t = Brood::Ws->open($brood, $path);
    $t->event('attached') or diag("status $t->{status}");
    return $t;
}

sub rss_kb { my ($pid) = $brood->pids('frontend'); return slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : 0 }

my $first = enter();
$first->type("PS1='R''EADY> '\r");
$first->until(qr/READY> /);

# [what, code, frames]
my $f = 'Brood::Ws';
my @hostile = (
    ['an unmasked frame', 1002, $f->frame(BINARY, 'x', mask => undef)],
    ['an unmasked text', 1002, $f->frame(TEXT, '{}', mask => undef)],
    ['reserved bits', 1002, $f->frame(BINARY, 'x', rsv => 4)],
    ['an unknown data frame', 1002, $f->frame(3, 'x')],
    ['an unknown control frame', 1002, $f->frame(11, 'x')],
    ['a continuation of nothing', 1002, $f->frame(0, 'x')],
    ['a message within a message', 1002, $f->frame(TEXT, '{', fin => 0), $f->frame(BINARY, 'x')],
    ['a fragmented ping', 1002, $f->frame(PING, 'x', fin => 0)],
    ['a long ping', 1002, $f->frame(PING, 'x' x 126)],
    ['a length that is not minimal', 1002, pack('CCn', 0x82, 0x80 | 126, 5) . "\0\0\0\0" . 'xxxxx'],
    ['a length beyond 2^63', 1002, pack('CCQ>', 0x82, 0x80 | 127, 1 << 63) . "\0\0\0\0x"],
    ['a message of 2^62 bytes', 1009, $f->frame(BINARY, 'x', length => 1 << 62)],
    ['fragments that are too long together', 1009, $f->frame(BINARY, ' ', fin => 0), $f->frame(0, ' ', length => 1 << 20)],
    ['a long text', 1009, $f->frame(TEXT, '"' . 'x' x 1023 . '"')],
    ['a long text in pieces', 1009, $f->frame(TEXT, '"', fin => 0), map { $f->frame(0, 'x' x 100, fin => 0) } 1 .. 11],
    ['text that is not UTF-8', 1007, $f->frame(TEXT, "{\"a\":\"\xff\"}")],
    ['text with half a character at its end', 1007, $f->frame(TEXT, "\xe2\x82")],
    ['text with a surrogate', 1007, $f->frame(TEXT, "\"\xed\xa0\x80\"")],
    ['a close of one byte', 1002, $f->frame(CLOSE, 'x')],
    ['a close with no such code', 1002, $f->frame(CLOSE, pack 'n', 999)],
    ['a close with a code that is never sent', 1002, $f->frame(CLOSE, pack 'n', 1006)],
    ['a close whose reason is not UTF-8', 1007, $f->frame(CLOSE, pack('n', 1000) . "\xff")],
    ['an HTTP request', 1002, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
);
for (@hostile) {
    my ($what, $code, @frames) = @$_;
    my $t = enter();
    $t->{closing} = 1; # no answer to the close
    $t->{conn}->put(join '', @frames);
    is($t->ended(5), $code, "$what: $code, and the end");
}
is($brood->sh(mallory => 'echo hi')->{stdout}, "hi\n", 'after them all it serves');

subtest 'a proper close' => sub {
    for my $code (1000, 1001, 3000, 4999) {
        my $t = enter();
        is($t->close($code), $code, "$code is answered with $code");
    }
    my $t = enter();
    $t->{closing} = 1;
    $t->send(CLOSE, '');
    is($t->ended(5), 1005, 'none with none');
};

subtest 'fragments' => sub {
    my $t = enter();
    $t->{conn}->put($f->frame(TEXT, '{"resi', fin => 0) . $f->frame(PING, 'between') . $f->frame(0, 'ze":{"cols":77,', fin => 0)
          . $f->frame(0, '', fin => 0) . $f->frame(0, '"rows":11}}'));
    $t->type("stty size\r");
    ok($t->until(qr/11 77\r\n/), 'a message in pieces is one, with a ping between them');
    is_deeply($t->{pongs}, ['between'], 'which is answered with its own bytes');
    my $before = rss_kb();
    my $empty = $f->frame(0, '', fin => 0) x 20000;
    $t->{conn}->put($f->frame(BINARY, '', fin => 0));
    ok($t->{conn}->put($empty), 'twenty thousand empty fragments') for 1 .. 10;
    $t->{conn}->put($f->frame(0, "echo A''LIVE\r"));
    ok($t->until(qr/ALIVE/), 'are read');
    my $grown = rss_kb() - $before;
    cmp_ok($grown, '<', 1024, "and not kept ($grown KiB)");
    $t->break;
};

subtest 'a flood of pings' => sub {
    my $t = enter();
    my $before = rss_kb();
    my $pings = $f->frame(PING, 'x' x 125) x 1000;
    my $taken = 0;
    $taken += $t->{conn}->put($pings, 1) ? 1 : last for 1 .. 200; # the pongs are not read
    cmp_ok($taken, '<', 200, "a client that reads no answer is not read either ($taken of 200 times 131 KB)");
    my $grown = rss_kb() - $before;
    cmp_ok($grown, '<', 1024, "what it is owed is bounded ($grown KiB)");
    is($brood->sh(mallory => 'echo hi')->{stdout}, "hi\n", 'others do not notice');
    $t->break;
    my $u = enter();
    for my $round (1 .. 20) {
        $u->{conn}->put(join '', map { $f->frame(PING, "$round $_") } 1 .. 100);
        while (@{$u->{pongs} // []} < 100 * $round) { $u->step(5) or last }
    }
    is_deeply($u->{pongs}, [map { my $round = $_; map { "$round $_" } 1 .. 100 } 1 .. 20], 'one that reads gets all of them');
    $u->break;
};

subtest 'slow and cut' => sub {
    my $t = enter();
    my $bytes = $f->frame(BINARY, "echo PIE''CES\r");
    $t->{conn}->put($_) for split //, $bytes;
    ok($t->until(qr/PIECES/), 'a frame byte by byte');
    $t->{conn}->put(substr $f->frame(BINARY, 'x' x 100), 0, 20);
    $t->break;
    my $early = Brood::Ws->open($brood, $path, early => $f->frame(BINARY, "\cUecho EA''RLY\r"));
    ok($early->until(qr/EARLY/), 'frames that come with the handshake are not lost');
    $early->break;
};

for my $broken (1 .. 30) { # each breaks at another point
    my $t = Brood::Ws->open($brood, $path);
    $t->step(1) for 1 .. $broken % 4;
    $t->type('x' x $broken);
    $t->break;
}
ok(until_true(5, sub { !$brood->request(GET => '/v1/namespaces/mallory/terminals')->{json}{terminals}[0]{attached} }), 'connections that break leave it detached');
is(scalar @{$brood->request(GET => '/v1/namespaces/mallory/terminals')->{json}{terminals}}, 1, 'all of it was one terminal');
is($brood->request(DELETE => '/v1/namespaces/mallory/terminals/t')->{status}, 200, 'which ends');
my ($pid) = $brood->pids('frontend');
ok(until_true(5, sub { !grep { (readlink($_) // '') =~ m{ptmx|/dev/pts} } glob "/proc/$pid/fd/*" }), 'the frontend holds no terminal any more');
$brood->stop;
done_testing;
