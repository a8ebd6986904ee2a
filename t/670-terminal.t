# SPDX-License-Identifier: Apache-2.0
# A terminal of a namespace: a login bash on a pty, its size, its signals, its end; one that is left and found again.
use utf8;
use lib 't/lib';
use Brood;
use Brood::Ws;
use Encode qw(encode_utf8);

my $brood = Brood->start('terminals-per-namespace' => 16);
my $path = '/v1/namespaces/alice/terminal';

sub list { return $brood->request(GET => '/v1/namespaces/alice/terminals')->{json}{terminals} }

# A new one whose prompt is known.
sub enter {
    my ($query, %opt) = @_;
    my $t = Brood::Ws->open($brood, "$path?$query", %opt);
    is($t->{status}, 101, "$query: switching protocols");
    ok(my $e = $t->event('attached'), 'attached');
    $t->type("PS1='R''EADY> '; PS2=; bind 'set enable-bracketed-paste off'\r");
    ok($t->until(qr/READY> /), 'a prompt');
    return $t;
}

# What a command shows, without its echo.
sub ask {
    my ($t, $cmd, $timeout) = @_;
    $t->type("echo BEG''IN; $cmd; echo E''ND\r");
    my $text = $t->until(qr/BEGIN\r\n(.*?)END\r\n/s, $timeout);
    $t->until(qr/READY> /);
    return defined $text ? $text =~ s/\r\n/\n/gr : undef;
}

subtest 'what it is' => sub {
    my $t = Brood::Ws->open($brood, "$path?name=first&cols=100&rows=30");
    is($t->{status}, 101, 'switching protocols');
    is($t->{headers}{'sec-websocket-accept'}, 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=', "RFC 6455's own example of a key");
    ok($t->{headers}{'x-request-id'}, 'with a request id');
    my $e = $t->event('attached');
    is_deeply([@$e{qw(name cols rows)}, !!$e->{created}, $e->{replayed}], ['first', 100, 30, !!1, 0], 'attached says what it is');
    $t->type("PS1='R''EADY> '; bind 'set enable-bracketed-paste off'\r");
    ok($t->until(qr/READY> /), 'a prompt');
    is(ask($t, 'stty size'), "30 100\n", 'stty size');
    is(ask($t, 'tty'), "/dev/pts/0\n", 'a terminal of its own devpts');
    is(ask($t, 'echo $TERM $0 $- $SHLVL; shopt -q login_shell && echo login'), "xterm-256color bash himBHs 1\nlogin\n", 'a login bash, interactive, with job control');
    is(ask($t, 'id -u; pwd; cut -d" " -f7 /proc/$$/stat | grep -vc "^0"'), "1000\n/work\n1\n", 'the user, at home, with a controlling terminal');
    is(ask($t, 'ls /proc/$$/fd | tr "\n" " "'), "0 1 2 255 \n" =~ s/\n//r, 'nothing is open but the terminal');
    is(ask($t, 'echo from-terminal >shared; cat shared'), "from-terminal\n", 'files');
    is($brood->sh(alice => 'cat shared')->{stdout}, "from-terminal\n", 'which runs see, while it lives');
    $t->tell({resize => {cols => 132, rows => 43}});
    is(ask($t, 'stty size'), "43 132\n", 'resized');
    my ($entry) = grep { $_->{name} eq 'first' } @{list()};
    is_deeply([@$entry{qw(cols rows)}, !!$entry->{attached}], [132, 43, !!1], 'and listed so');
    like($entry->{created_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'with its time');
    $t->type("exit 7\r");
    my $exit = $t->event('exit');
    is_deeply([@$exit{qw(reason exit_code signal)}], ['exit', 7, undef], 'exit is told');
    ok($exit->{run_id}, 'with the id of its run');
    is($t->ended, 1000, 'then it is closed');
    ok(until_true(5, sub { !@{list()} }), 'and not listed any more');
};

subtest 'signals and job control' => sub {
    my $t = enter('name=jobs');
    $t->type("sh -c 'echo RUN\"\"NING; exec sleep 1000'\r");
    $t->until(qr/RUNNING\r\n/);
    $t->type("\cC");
    ok($t->until(qr/\^C.*READY> /s, 5), 'Ctrl-C ends a sleep');
    $t->type("sh -c 'echo RUN\"\"NING; exec sleep 1001'\r");
    $t->until(qr/RUNNING\r\n/);
    $t->type("\cZ");
    ok($t->until(qr/Stopped.*READY> /s, 5), 'Ctrl-Z stops one');
    like(ask($t, 'kill %1; fg; jobs'), qr/Terminated/, 'and it can be ended');
    $t->type("stty raw -echo -isig; sh -c 'echo R\"\"AW; exec sleep 1002'\r");
    $t->until(qr/RAW\r?\n/);
    $t->type("\cC");
    $t->tell({signal => 'INT'});
    ok($t->until(qr/READY> /, 5), 'a signal reaches a program whose terminal has none');
    $t->type("\cU stty sane; echo SA''NE\r");
    $t->until(qr/SANE.*READY> /s);
    for (['{"signal":"KILL"}', 'signal'], ['{"resize":{"cols":0,"rows":5}}', 'resize'], ['{"resize":{"cols":5}}', 'resize'], ['[1]', 'object'], ['{', 'object'], ['{}', 'expected']) {
        $t->tell($_->[0]);
        like($t->event('error')->{message}, qr/$_->[1]/, "$_->[0] is refused, and nothing else happens");
    }
    is(ask($t, 'echo alive'), "alive\n", 'it lives on');
    $t->close;
};

subtest 'UTF-8 in pieces' => sub {
    my $t = enter('name=utf8');
    my $text = encode_utf8('printf "%s\n" "äöü€𝄞"');
    $t->type($_) for split //, "$text\r";
    is($t->until(qr/(?<=\n)(\S+)\r\n(?=READY)/), encode_utf8('äöü€𝄞'), 'typed byte by byte, each a message of its own');
    my $euro = encode_utf8('€');
    $t->send(Brood::Ws::BINARY, 'printf "%s\n" "' . substr($euro, 0, 1), fin => 0);
    $t->send(0, substr($euro, 1, 1), fin => 0);
    $t->send(0, substr($euro, 2) . "\"\r");
    is($t->until(qr/(?<=\n)(\S+)\r\n(?=READY)/), $euro, 'in fragments of one message');
    is(ask($t, "for ((i = 0; i < 20000; i++)); do printf $euro; done; echo"), $euro x 20000 . "\n", '60,000 bytes of them come whole');
    $t->close;
};

subtest 'left and found again' => sub {
    my $t = enter('name=again&cols=80&rows=24');
    ask($t, 'x=kept; (sleep 1.2; echo LA""TER) & disown');
    $t->break;
    ok(until_true(5, sub { grep { $_->{name} eq 'again' && !$_->{attached} } @{list()} }), 'listed as detached');
    ok(until_true(5, sub { $brood->sh(alice => 'true')->{http} == 200 }), 'runs go on');
    my $u = Brood::Ws->open($brood, "$path?name=again");
    my $e = $u->event('attached');
    ok(!$e->{created} && $e->{replayed} > 20, 'attached to what was there');
    ok($u->until(qr/READY> /), 'its scrollback comes first');
    ok($u->until(qr/LATER/, 5), 'then what it writes');
    is(length $u->{out} >= $e->{replayed} ? 1 : 0, 1, 'all of it');
    is(ask($u, 'echo $x; stty size'), "kept\n24 80\n", 'the same shell, as it was');
    my $v = Brood::Ws->open($brood, "$path?name=again&cols=90&rows=33");
    $v->event('attached');
    is($u->ended, 4001, 'a second client takes over: the first is closed with 4001');
    $v->until(qr/READY> \z/);
    is(ask($v, 'stty size; echo $x'), "33 90\nkept\n", 'with its own size');
    ask($v, 'i=0; while ((i < 30000)); do echo line $((i++)); done', 60);
    $v->close;
    my $w = Brood::Ws->open($brood, "$path?name=again");
    is($w->event('attached')->{replayed}, 65536, 'scrollback is the last 64 KiB');
    ok($w->until(qr/line 29999\r\n/), 'up to the end');
    unlike($w->{out}, qr/line 20000\r/, 'and no more');
    my $r = $brood->request(DELETE => '/v1/namespaces/alice/terminals/again');
    is_deeply([$r->{status}, $r->{json}], [200, {ended => Mojo::JSON::true()}], 'DELETE ends it');
    is($w->event('exit')->{reason}, 'cancelled', 'its client is told');
    is($w->ended, 1000, 'and closed');
    is($brood->request(DELETE => '/v1/namespaces/alice/terminals/again')->{status}, 404, 'once');
    my $n = enter('name=again');
    is(ask($n, 'echo "<$x>"'), "<>\n", 'the next of that name is new');
    $n->close;
};

subtest 'runs beside it' => sub {
    my $t = enter('name=beside');
    my $server = q{perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1:7778", ReuseAddr => 1) or die; }
      . q{open F, ">/tmp/up"; close F; while ($c = $s->accept) { $l = <$c>; print $c "served $l"; close $c }' & disown};
    ask($t, "x=kept; $server");
    is($brood->sh(alice => 'until [ -e /tmp/up ]; do sleep 0.01; done; exec 3<>/dev/tcp/127.0.0.1/7778; echo hello >&3; cat <&3')->{stdout}, "served hello\n", 'a server of the terminal answers a run');
    $brood->sh(alice => 'kill -9 -1; kill -9 $$'); # all that it can
    is(ask($t, 'echo $x; jobs -p | wc -l; pgrep -c perl'), "kept\n0\n1\n", 'which kills neither the shell nor the server');
    is($brood->sh(alice => 'exec 3<>/dev/tcp/127.0.0.1/7778; echo again >&3; cat <&3')->{stdout}, "served again\n", 'it answers the next one');
    $t->close;
    $brood->request(DELETE => '/v1/namespaces/alice/terminals/beside');
};

subtest 'scrollback that is just full' => sub {
    my $t = enter('name=full');
    $t->type("stty -echo -opost; exec sh -c 'printf S\"\"ET; read n; head -c \$n /dev/zero | tr \"\\000\" x; printf D\"\"ONE; exec sleep 100'\r");
    ok($t->until(qr/SET/), 'it says nothing but what it is told to');
    my $n = 65536 - 4 - length $t->{out};
    $t->type("$n\n");
    ok($t->until(qr/x+DONE/), 'it wrote');
    is(length $t->{out}, 65536, '64 KiB in all');
    $t->close;
    my $u = Brood::Ws->open($brood, "$path?name=full");
    is($u->event('attached')->{replayed}, 65536, 'all of it is replayed');
    ok($u->until(qr/DONE\z/), 'it comes');
    ok($u->{out} eq $t->{out}, 'byte for byte');
    $u->close;
    $brood->request(DELETE => '/v1/namespaces/alice/terminals/full');
};

subtest 'several' => sub {
    my @t = map { enter("name=s$_") } 1 .. 3;
    is(ask($t[$_], "v=$_; tty; echo /dev/pts/*"), "/dev/pts/0\n/dev/pts/0 /dev/pts/ptmx\n", 'each in a devpts of its own') for 0 .. 2;
    $t[$_]->type("echo I am \$v\r") for 0 .. 2;
    ok($t[$_]->until(qr/I am $_\r.*READY> /s), "each is itself: $_") for 0 .. 2; # who reads the next key: readline
    is(scalar(grep { $_->{name} =~ /^s\d$/ && $_->{attached} } @{list()}), 3, 'all are listed');
    for my $t (@t) {
        $t->type("\cD");
        is($t->event('exit')->{exit_code}, 0, 'Ctrl-D ends one');
        is($t->ended, 1000, 'cleanly');
    }
};

$brood->request(DELETE => "/v1/namespaces/alice/terminals/$_->{name}") for @{list()};
is_deeply(list(), [], 'none is left');
$brood->stop;
done_testing;
