# SPDX-License-Identifier: Apache-2.0
# Other users of the machine at the engine's socket: each may do what the settings say and is told so when it may
# not; what is forbidden does not happen.
use lib 't/lib';
use Brood;
use File::Copy qw(copy);
use IO::Socket::UNIX;
use Socket qw(SOCK_SEQPACKET);

require_layer('root');
use constant {RUNNER => 54321, ADMIN => 54322, STRANGER => 54323, GROUP => 54399};

my ($brood, $cli);

# The CLI as that user and these groups (the first is the primary one): (exit code, stdout and stderr).
sub as {
    my ($uid, $groups, @args) = @_;
    my ($first, @more) = @$groups;
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        open STDIN, '<', '/dev/null';
        $ENV{BROOD_SOCKET} = $brood->{socket};
        $) = join ' ', $first, @more ? @more : $first;
        POSIX::setgid($first);
        POSIX::setuid($uid) or POSIX::_exit(97);
        exec $cli, @args or POSIX::_exit(98);
    }
    my $text = do { local $/; <$out> } // '';
    close $out;
    return ($? >> 8, $text);
}

sub start {
    $brood = Brood->start(@_);
    $cli = "$brood->{dir}/brood";
    copy(Brood::build() . '/brood', $cli) && chmod 0755, $cli;
}

sub mode { return sprintf '%o', (stat $brood->{socket})[2] & 07777 }

subtest 'nobody is named' => sub {
    start();
    is(mode(), '660', 'the socket is root\'s');
    my ($code, $text) = as(STRANGER, [STRANGER], qw(exec -n alice -- echo hi));
    isnt($code, 0, 'another user cannot use it');
    like($text, qr/no right to use/, 'and is told why');
    is_deeply([as(0, [0], qw(exec -n alice -- echo hi))], [0, "hi\n"], 'control: root can');
    chmod 0666, $brood->{socket}; # by mistake, or by somebody's script
    ($code, $text) = as(STRANGER, [STRANGER], qw(exec -n alice -- touch /work/stranger));
    like($text, qr/forbidden/, 'nor when the file mode would let it: it is asked who it is');
    isnt($code, 0, 'and fails');
    ok(!$brood->find('stranger'), 'nothing ran');
    $brood->stop;
};

subtest 'users and admins' => sub {
    start('socket-users' => RUNNER . ',@' . GROUP, 'socket-admins' => ' ' . ADMIN);
    is(mode(), '666', 'the socket lets them come');
    is_deeply([as(RUNNER, [RUNNER], qw(exec -n alice -- echo hi))], [0, "hi\n"], 'a user runs');
    is_deeply([as(STRANGER, [GROUP], qw(exec -n alice -- echo hi))], [0, "hi\n"], 'so does one whose group is named');
    is_deeply([as(STRANGER, [STRANGER, GROUP, 54400], qw(exec -n alice -- echo hi))], [0, "hi\n"], 'also when it is not its first group');
    is_deeply([as(ADMIN, [ADMIN], qw(exec -n alice -- echo hi))], [0, "hi\n"], 'and an admin');
    for (['stats'], [qw(ns list)], [qw(ns rm alice)]) {
        my ($code, $text) = as(RUNNER, [RUNNER], @$_);
        isnt($code, 0, "a user may not: @$_");
        like($text, qr/forbidden/, 'and is told so');
    }
    is_deeply([as(RUNNER, [RUNNER], qw(exec -n alice -- echo again))], [0, "again\n"], 'alice is still there');
    ok(-d "$brood->{fs_root}/alice", 'with its files');
    like((as(ADMIN, [ADMIN], 'stats'))[1], qr/^forbidden_total\s+3$/m, 'an admin sees statistics: three were refused');
    like((as(ADMIN, [ADMIN], qw(ns list)))[1], qr/^alice /m, 'and namespaces');
    is_deeply([as(ADMIN, [ADMIN], qw(ns rm alice))], [0, ''], 'and removes one');
    ok(!-d "$brood->{fs_root}/alice", 'it is gone');
    for my $uid (RUNNER + 1000, ADMIN + 1000, 65534) {
        my ($code, $text) = as($uid, [$uid], qw(exec -n alice -- touch stranger));
        ok($code && $text =~ /forbidden/, "user $uid is turned away") or diag($text);
    }
    ok(!-d "$brood->{fs_root}/alice", 'and nothing came of it');
    like((as(0, [0], 'stats'))[1], qr/^forbidden_total\s+6$/m, 'root is always an admin');
    $brood->stop;
};

# Raw frames: the answer to what is forbidden carries the tag, and the connection goes on.
subtest 'a user that insists' => sub {
    start('socket-users' => RUNNER);
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        POSIX::setgid(RUNNER);
        POSIX::setuid(RUNNER) or POSIX::_exit(97);
        my $sock = IO::Socket::UNIX->new(Type => SOCK_SEQPACKET, Peer => $brood->{socket}) or POSIX::_exit(96);
        my @types;
        sysread $sock, my $hello, 65536;
        for (1 .. 5) {
            syswrite $sock, pack('H*', '6272643109000000080b1203626f62'); # PROTOCOL.md: NamespaceRemove, tag 11
            sysread $sock, my $answer, 65536;
            push @types, unpack 'H*', substr $answer, 4, 1 + 7;
        }
        print "@types";
        close STDOUT;
        POSIX::_exit(0);
    }
    $brood->sh(bob => 'echo kept > note');
    my $text = do { local $/; <$out> };
    close $out;
    is($text, join(' ', ('0a000000080b1009') x 5), 'Done, its tag, forbidden, each time');
    is($brood->sh(bob => 'cat note')->{stdout}, "kept\n", 'bob is still there');
    $brood->stop;
};

subtest 'a name that is none' => sub {
    for (['socket-users' => 'no-such-user'], ['socket-admins' => 'root,@no-such-group'], ['socket-users' => 'root,,root']) {
        my $it = Brood->start(ready => 0, @$_);
        ok($it->wait_exit(10) && $it->{status} != 0, "@$_: the service does not start");
        like(slurp($it->{log}), qr/socket_\w+: expected/, 'and says what it expected');
    }
};
done_testing;
