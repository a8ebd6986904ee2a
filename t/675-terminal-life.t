# SPDX-License-Identifier: Apache-2.0
# How terminals end by themselves: nobody is there, a client is silent, a life is over, the service stops, the frontend
# or the zygote dies. And over several threads: any of them accepts, one has it.
use lib 't/lib';
use Brood;
use Brood::Ws;
use Time::HiRes qw(time);

my $path = '/v1/namespaces/alice/terminal';
my $brood;

sub enter {
    my ($query, %opt) = @_;
    my $t = Brood::Ws->open($brood, "$path?$query", %opt);
    $t->event('attached') or diag("status $t->{status}");
    return $t;
}

sub list { return @{($brood->request(GET => '/v1/namespaces/alice/terminals') // {})->{json}{terminals} // []} }

$brood = Brood->start('terminals-idle-s' => 1, 'terminals-silence-s' => 2);
subtest 'nobody is there' => sub {
    my $t = enter('name=left');
    $t->type("sleep 1000 & disown; echo UN''DER WAY\r");
    $t->until(qr/UNDER WAY/);
    $t->break;
    ok(until_true(5, sub { !list() }), 'a terminal that is left for terminals.idle_s ends');
    ok($brood->wait_log(qr/"terminal_idle"/), 'which is logged');
    my $u = enter('name=left');
    $u->type("pgrep -c sleep; echo EN''D\r");
    ok($u->until(qr/\b0\r\nEND/), 'with all that it had begun');
    $u->break;
};

subtest 'silence' => sub {
    my $t = enter('name=silent');
    my $at = time;
    ok(until_true(10, sub { $t->step(1); $t->{pings} >= 3 }), 'a client is asked whether it is there');
    cmp_ok(time - $at, '>', 2, 'and stays for as long as it answers');
    $t->{mute} = 1;
    $at = time;
    is($t->ended(10), 1006, 'when it does not, the connection is cut');
    cmp_ok(time - $at, '<', 5, 'soon');
    is((list())[0]{name}, 'silent', 'and the terminal is left');
    my $u = enter('name=silent');
    $u->type("echo TH''ERE\r");
    ok($u->until(qr/THERE/), 'to be found again');
    $u->break;
};
$brood->stop;

$brood = Brood->start('terminals-max-life-s' => 2);
subtest 'a life is over' => sub {
    my $t = enter('name=old');
    $t->type("trap '' HUP TERM; while :; do sleep 1; done\r");
    my $e = $t->event('exit', 15);
    is($e->{reason}, 'timeout', 'whatever it does, after terminals.max_life_s it ends');
    is($t->ended, 1000, 'and its client knows');
};
$brood->stop;

$brood = Brood->start('terminals-per-namespace' => 64, 'http-threads' => 3, tcp => 1);
subtest 'threads' => sub {
    my @t = map { enter("name=t$_", via => $_ % 2 ? 'tcp' : 'unix') } 1 .. 12;
    for my $i (1 .. 12) { $t[$i - 1]->type("v=$i; echo S''ET\r") }
    $_->until(qr/SET/) for @t; # else a client that takes over might be heard first
    for my $round (1 .. 4) {
        my @u = map { enter("name=t$_", via => ($_ + $round) % 2 ? 'tcp' : 'unix') } 1 .. 12;
        is(join(' ', map { $_->ended } @t), join(' ', (4001) x 12), "round $round: taken over, whichever thread accepted");
        $u[$_ - 1]->type("echo I am \$v in $round\r") for 1 .. 12;
        is(scalar(grep { $u[$_ - 1]->until(qr/I am $_ in $round\r\n/) } 1 .. 12), 12, 'each is itself');
        @t = @u;
    }
    is(scalar list(), 12, 'all threads list all');
    my @gone = map { $brood->request(DELETE => "/v1/namespaces/alice/terminals/t$_", via => 'tcp')->{status} } 1 .. 12;
    is("@gone", join(' ', (200) x 12), 'and any thread ends any');
    is(join(' ', map { $_->ended } @t), join(' ', (1000) x 12), 'cleanly');
};

subtest 'a zygote dies' => sub {
    my $t = enter('name=dies');
    $t->type("readlink /proc/self/ns/pid\r");
    my $ns = $t->until(qr/(pid:\[\d+\])/);
    my ($pid) = grep { (readlink("/proc/$_/ns/pid") // '') eq $ns } $brood->pids('zygote');
    ok($pid && kill(KILL => $pid), 'the zygote behind a terminal is killed');
    my $e = $t->event('exit') // $t->event('error', 1);
    ok($e, 'its client is told');
    like($t->ended // 'nothing', qr/^(?:1000|1011|1013)$/, 'and closed');
    my $u = enter('name=dies');
    $u->type("echo NE''W\r");
    ok($u->until(qr/NEW/), 'the next of that name is new');
};

subtest 'the frontend dies' => sub {
    my $t = enter('name=front');
    my ($pid) = $brood->pids('frontend');
    kill KILL => $pid;
    is($t->ended, 1006, 'the connection breaks');
    ok($brood->wait_ready(10), 'another frontend comes');
    ok(until_true(10, sub { !list() }), 'which knows of no terminal');
    my $u = enter('name=front');
    ok($u->type("echo NE''W\r") && $u->until(qr/NEW/), 'and makes one of that name');
};

subtest 'the service stops' => sub {
    my @t = map { enter("name=stop$_") } 1 .. 3;
    $t[0]->type("trap '' HUP TERM INT; cat\r");
    $t[1]->type("yes\r");
    $t[1]->step(5) for 1 .. 20;
    $brood->signal('TERM');
    is($_->ended(10), 1001, 'its clients are told: going away') for @t[1, 0, 2];
    ok($brood->wait_exit(15) && $brood->{status} == 0, 'and it stops cleanly');
};
done_testing;
