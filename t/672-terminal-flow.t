# SPDX-License-Identifier: Apache-2.0
# Much output and much input: nothing is lost, a client that does not read costs a bounded amount of memory and stops the
# program, Ctrl-C gets through, and a program that does not read stops the client.
use lib 't/lib';
use Brood;
use Brood::Ws;
use Time::HiRes qw(time);

my $brood = Brood->start('terminals-per-namespace' => 16);
my $path = '/v1/namespaces/alice/terminal';

sub enter {
    my ($name) = @_;
    my $t = Brood::Ws->open($brood, "$path?name=$name");
    $t->event('attached');
    $t->type("PS1='R''EADY> '; bind 'set enable-bracketed-paste off'\r");
    $t->until(qr/READY> /);
    return $t;
}

sub rss_kb { my ($pid) = $brood->pids('frontend'); return slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : 0 }

subtest '10 MB' => sub {
    my $t = enter('much');
    my $before = rss_kb();
    $t->{out} = '', $t->{seen} = 0;
    $t->type("seq -f 'number %08.0f' 1 625000; echo D''ONE\r");
    1 while substr($t->{out}, -100) !~ /DONE\r\n/ && $t->step(30); # until() would look at all of it each time
    ok($t->until(qr/DONE\r\n/), 'all of it comes');
    my $n = 0;
    my $in_order = 1;
    my $out = $t->{out};
    while ($out =~ /^number (\d{8})\r\n/gm) { $in_order &&= $1 == ++$n }
    is($n, 625000, 'every line');
    ok($in_order, 'in order');
    my $grown = rss_kb() - $before;
    cmp_ok($grown, '<', 2048, "in bounded memory ($grown KiB)");
    $t->type("yes some text to fill the screen\r");
    $t->step(5) for 1 .. 100;
    my $at = time;
    $t->type("\cC");
    $t->{seen} = length $t->{out};
    ok($t->until(qr/READY> /, 10), 'Ctrl-C ends what would never end');
    my $took = time - $at;
    cmp_ok($took, '<', 2, sprintf('at once (%.0f ms)', $took * 1000));
    $t->break;
};

subtest 'a client that does not read' => sub {
    my $t = enter('slow');
    my $before = rss_kb();
    $t->type("i=0; while echo \$((i++)) yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; do echo \$i >count; done\r");
    my $count = sub { my $f = $brood->find('count'); defined $f ? slurp($f) || 0 : 0 };
    my $last = -1;
    ok(until_true(20, sub { my $now = $count->(); my $same = $now && $now == $last; $last = $now; select undef, undef, undef, 0.3; $same }), 'stops the program');
    my $grown = rss_kb() - $before;
    cmp_ok($grown, '<', 1024, "what waits for it is bounded ($grown KiB)");
    my $other = enter('beside');
    $other->type("echo BE''SIDE\r");
    ok($other->until(qr/BESIDE/), 'another terminal goes on');
    $t->type("\cC"); # the program is stuck in a write; the keyboard is not
    ok($t->until(qr/READY> \z/, 30), 'Ctrl-C gets through, and what waited is shown');
    cmp_ok(length $t->{out}, '<', 4 << 20, 'which is not much');
    $t->type("echo AF''TER\r");
    ok($t->until(qr/AFTER/), 'and it goes on');
    $t->break;
    $other->break;
};

subtest 'nobody reads' => sub {
    my $t = enter('alone');
    $t->type("seq 1 200000; echo D''ONE; : >finished\r");
    $t->break;
    ok($brood->wait_file('finished', 30), 'a detached terminal is read on: its program ends');
    my $u = Brood::Ws->open($brood, "$path?name=alone");
    ok($u->until(qr/200000\r\nDONE/, 10), 'and its last words are there');
    $u->break;
};

subtest 'much input' => sub {
    my $t = enter('input');
    $t->type("stty raw -echo; echo R''AW; head -c 3000000 | cksum; stty sane\r");
    my $bytes = join('', map { chr(32 + $_ % 90) } 1 .. 1000) x 3000;
    spew("$brood->{dir}/typed", $bytes);
    my ($crc) = `cksum <$brood->{dir}/typed` =~ /^(\d+ \d+)/;
    $t->until(qr/RAW\r?\n/);
    $t->type(substr $bytes, $_ * 100000, 100000) for 0 .. 29;
    ok($t->until(qr/\Q$crc\E/, 60), 'three million bytes are typed without a loss');
    $t->break;
    my $s = enter('stuck');
    my $before = rss_kb();
    $s->type("stty raw -echo; sleep 1000\r");
    $s->until(qr/sleep 1000/);
    my $put = 0;
    $put += $s->{conn}->put($s->frame(2, 'x' x 100000), 2) ? 1 : last for 1 .. 200;
    cmp_ok($put, '<', 200, "a program that does not read stops its client (after $put times 100 KB)");
    my $grown = rss_kb() - $before;
    cmp_ok($grown, '<', 1024, "in bounded memory ($grown KiB)");
    $s->break;
    my $v = Brood::Ws->open($brood, "$path?name=stuck");
    $v->event('attached');
    $v->tell({signal => 'INT'});
    $v->type("\r\cC\rstty sane\r");
    ok($v->until(qr/READY> /, 10), 'another client interrupts it by a signal');
    $v->break;
};

$brood->request(DELETE => "/v1/namespaces/alice/terminals/$_->{name}") for @{$brood->request(GET => '/v1/namespaces/alice/terminals')->{json}{terminals}};
$brood->stop;
done_testing;
