# SPDX-License-Identifier: Apache-2.0
# The command line: brood exec, ns, stats, doctor over the Unix socket.
use lib 't/lib';
use Brood;
use IO::Select;
use IPC::Open3;
use Symbol qw(gensym);
use Time::HiRes qw(time);

my $brood = Brood->start;

# Starts the CLI: {pid, in, out, err}.
sub start_cli {
    local %ENV = (%ENV, BROOD_SOCKET => $brood->{socket});
    my $pid = open3(my $in, my $out, my $err = gensym, Brood::build() . '/brood', @_);
    return {pid => $pid, in => $in, out => $out, err => $err};
}

# Runs the CLI to its end: (exit code or -signal, stdout, stderr).
sub cli {
    my ($input, @args) = @_;
    my $cli = start_cli(@args);
    my %text = (out => '', err => '');
    print {$cli->{in}} $input;
    close $cli->{in};
    my $select = IO::Select->new($cli->{out}, $cli->{err});
    while ($select->count) {
        for my $fh ($select->can_read(30)) {
            my $name = $fh == $cli->{out} ? 'out' : 'err';
            $select->remove($fh) unless sysread $fh, $text{$name}, 65536, length $text{$name};
        }
    }
    waitpid $cli->{pid}, 0;
    return ($? & 127 ? -($? & 127) : $? >> 8, $text{out}, $text{err});
}

subtest 'exec' => sub {
    is_deeply([cli('', qw(exec -n alice -- echo hi))], [0, "hi\n", ''], 'echo');
    is_deeply([cli('', qw(exec -n alice --), 'echo out; echo err >&2; exit 3')], [3, "out\n", "err\n"], 'both streams and the exit code');
    is((cli('', qw(exec -n alice --), "exit $_"))[0], $_, "exit code $_") for 1, 2, 126, 127, 255;
    is((cli('', qw(exec -n alice --), 'kill -KILL $$'))[0], 137, 'killed: 128+9');
    is((cli('', qw(exec -n alice --), 'kill -TERM $$'))[0], 143, 'terminated: 128+15');
    is((cli('', qw(exec -n alice --timeout 0.3 --), 'sleep 60'))[0], 124, 'a timeout: 124');
    is_deeply([cli('', qw(exec -n alice --env), 'A=x=y z', '--env', 'B=', '--', 'echo "$A|$B"')], [0, "x=y z||\n" =~ s/\|\|/|/r, ''], '--env');
    is_deeply([cli("some\ninput", qw(exec -n alice --stdin -- cat))], [0, "some\ninput", ''], '--stdin');
    is((cli('x' x 300_000, qw(exec -n alice --stdin -- wc -c)))[1] + 0, 300_000, 'a lot of it');
    is_deeply([cli('unread', qw(exec -n alice -- cat))], [0, '', ''], 'without it stdin is empty');
    is((cli('', qw(exec -n alice -- printf %s\n), 'a  b', q(it's $HOME *), ''))[1], "a  b\nit's \$HOME *\n\n", 'several arguments are words');
    is_deeply([cli('', qw(exec -n alice --), 'echo a >/dev/stdout; echo b >/dev/stderr')], [0, "a\n", "b\n"], 'its streams can be opened again');
    my (undef, $out) = cli('', qw(exec -n alice --), 'head -c 5000000 /dev/zero');
    is(length $out, 5_000_000, 'output is not limited here') or diag(length $out);
    cli('', qw(exec -n alice --), 'echo hello > note.txt');
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "hello\n", 'the same namespace as over HTTP');
};

subtest 'streaming' => sub {
    my $cli = start_cli(qw(exec -n stream --stdin --), 'echo first; read x; echo "then $x"');
    my $begin = time;
    ok(IO::Select->new($cli->{out})->can_read(5), 'the first byte comes');
    sysread $cli->{out}, my $text, 100;
    is($text, "first\n", 'before the command has ended');
    syswrite $cli->{in}, "second\n";
    close $cli->{in};
    my $rest = do { local $/; readline $cli->{out} };
    is($rest, "then second\n", 'and the rest after it');
    waitpid $cli->{pid}, 0;
    is($? >> 8, 0, 'exit code 0');
};

subtest 'interrupted' => sub {
    my $cli = start_cli(qw(exec -n stream --), 'touch cli-started; sleep 60');
    ok($brood->wait_file('cli-started'), 'a command runs');
    kill INT => $cli->{pid};
    waitpid $cli->{pid}, 0;
    is($? >> 8, 130, 'interrupted: 128+2');
    my $begin = time;
    is($brood->sh(stream => 'echo next', timeout => 5)->{stdout}, "next\n", 'interrupting the CLI ends it');
    cmp_ok(time - $begin, '<', 1.5, 'at once');

    $cli = start_cli(qw(exec -n stream --), 'yes');
    sysread $cli->{out}, my $text, 100;
    close $cli->{out};
    waitpid $cli->{pid}, 0;
    is($? >> 8, 141, 'a broken stdout: 128+13');
    is($brood->sh(stream => 'echo next', timeout => 5)->{stdout}, "next\n", 'ends the run');
};

# Nothing of the caller's reaches the tenant: a file as stdin, stdout and stderr stays out of its hands.
subtest 'descriptors' => sub {
    my $path = "$brood->{dir}/mine";
    spew($path, "secret\n" x 3);
    my $program = Brood::build() . '/brood';
    local %ENV = (%ENV, BROOD_SOCKET => $brood->{socket});
    my $cmd = 'for fd in 0 1 2; do readlink /proc/self/fd/$fd; done; head -n 1; : >/dev/stdin; true';
    is(system("$program exec -n alice --stdin -- '$cmd' <$path >$path.out 2>$path.err"), 0, 'files as streams');
    my @lines = split /\n/, slurp("$path.out");
    like($lines[$_], qr/^pipe:/, "descriptor $_ is a pipe") for 0 .. 2;
    is($lines[3], 'secret', 'the input comes through');
    is(slurp($path), "secret\n" x 3, 'and cannot be cut');
};

subtest 'ns, stats, doctor' => sub {
    my ($code, $out, $err) = cli('', qw(ns list));
    is($code, 0, 'ns list');
    like($out, qr/^alice\b/m, 'names alice');
    like($out, qr/^stream\b/m, 'and stream');
    ($code, $out, $err) = cli('', qw(ns rm alice));
    is($code, 0, 'ns rm') or diag($err);
    unlike((cli('', qw(ns list)))[1], qr/^alice\b/m, 'alice is gone');
    is($brood->sh(alice => 'cat note.txt')->{exit_code}, 1, 'with all her files');
    isnt((cli('', qw(ns rm never-seen)))[0], 0, 'removing what is not there fails');
    my $conn = $brood->post(stream => 'touch busy-started; sleep 1');
    $brood->wait_file('busy-started');
    ($code, $out, $err) = cli('', qw(ns rm stream));
    isnt($code, 0, 'removing what is busy fails');
    $brood->result($conn);
    ($code, $out) = cli('', 'stats');
    is($code, 0, 'stats');
    like($out, qr/^\S+\s+\d+$/m, 'prints names and numbers');
    ($code, $out, $err) = cli('', 'doctor');
    is($code, 0, 'doctor is content') or diag($out, $err);
    like($out, qr/$_/i, "and speaks of $_") for qw(kernel cgroup landlock seccomp bash);
};

subtest 'used wrongly' => sub {
    for ([], ['nonsense'], ['exec', '--nonsense'], ['exec', '-n'], ['exec', '-n', 'alice'], ['exec', '-n', '../x', '--', 'true'],
        ['exec', '-n', 'alice', '--env', 'novalue', '--', 'true'], ['exec', '-n', 'alice', '--timeout', 'soon', '--', 'true'], ['ns']) {
        my ($code, $out, $err) = cli('', @$_);
        is($code, ($_->[0] // '') eq 'exec' ? 125 : 2, "brood @$_: fails");
        like($err, qr/\S/, 'and says why');
    }
    is((cli('', '--help'))[0], 0, '--help');
    for my $verb ('key new', 'key list', 'ns list', 'ns rm', 'policy show') {
        my ($group) = split / /, $verb;
        my $help = (cli('', 'help', $group))[1];
        is_deeply([cli('', split(/ /, $verb), '--help')], [0, $help, ''], "$verb --help");
        like((cli('', split(/ /, $verb), '--nonsense'))[2], qr/^brood: $verb: unknown option --nonsense \(brood help $group\)$/, 'a hint that leads somewhere');
    }
    is((cli('', qw(exec -n alice echo --help)))[1], "--help\n", "a command's --help is the command's");
    is_deeply([(cli('echo 1', qw(run -l bash --cwd /tmp -)))[0, 2]], [125, "brood: run: unknown option --cwd (brood help run)\n"], 'a program runs in /work');
    is((cli('', '--version'))[0], 0, '--version');
    my ($code, undef, $err) = do { local $brood->{socket} = '/nowhere/brood.sock'; cli('', qw(exec -n alice -- true)) };
    is((cli('', qw(exec -n alice --timeout 86400 -- true)))[0], 125, 'refused by the service: 125');
    ok($code == 125 && $err =~ m{/nowhere/brood\.sock}, 'no service: says where it looked');
};

$brood->stop;
done_testing;
