# SPDX-License-Identifier: Apache-2.0
# Brood::Net - a small internet for one test file, on this machine and out of its way.
#
#   use Brood::Net;                     # before any process of the test is started
#   my $net = Brood::Net->new;          # needs ip, nft, nsenter; else the file is skipped
#   my $brood = Brood->start($net->egress('network-allow' => '203.0.113.0/24:80'));
#   $net->seen                          # what servers were visited: "tcp 203.0.113.10:80 from 192.0.2.2"
#   $net->state                         # links, addresses, rules, forwarding of the test's "host"
#
# The test moves into a netns of its own, which is "the host" from then on: a service that is started there, its
# links and its tables do not touch the machine's. Behind it, in another netns, stands the world: one process
# that answers on all addresses below. TCP: a line "GET n" brings n bytes, anything else a line that says who was
# reached. UDP: the same line; on port 53 an answer to a question for an A record: 203.0.113.10.
package Brood::Net;
use strict;
use warnings;
use Brood;
use File::Temp ();
use IO::Select;
use Socket;
use Test::More;

use constant {SYS_unshare => 272, CLONE_NEWNS => 0x20000, CLONE_NEWNET => 0x40000000};
use constant {HOST => '192.0.2.2', WORLD => '192.0.2.1'};

our @ADDRESSES = qw(203.0.113.10 203.0.113.11 203.0.113.53 203.0.113.54 203.0.113.200 198.51.100.1 169.254.169.254 10.99.0.5
    10.99.1.5 192.168.7.7 172.16.3.3 100.64.0.9 198.18.0.1 192.0.0.9);
our @TCP = (53, 80, 81, 443, 445, 446, 5432, 8080);
our @UDP = (53, 80, 7000, 7001);
my @kids;

sub new {
    my ($class, %opt) = @_;
    Brood::require_layer(qw(root ip nft nsenter));
    my $self = bless {log => File::Temp->new(TEMPLATE => 'brood-net-XXXXXX', TMPDIR => 1)}, $class;
    syscall(SYS_unshare, CLONE_NEWNS | CLONE_NEWNET) == 0 or plan skip_all => "no netns: $!";
    # /sys shows the netns it was mounted in; the cgroups below it are wanted as they are.
    my $keep = File::Temp::tempdir(CLEANUP => 0);
    run('mount', '--make-rprivate', '/');
    run('mount', '--rbind', '/sys/fs/cgroup', $keep);
    run('mount', '-t', 'sysfs', 'sysfs', '/sys');
    run('mount', '--rbind', $keep, '/sys/fs/cgroup');
    run('umount', '-l', $keep);
    rmdir $keep;
    run(qw(ip link set lo up));
    $self->_start_world;
    $self->_start_server('host', undef, [9000, 9001, 8080], [9000]);
    return $self;
}

sub run {
    my (@command) = @_;
    system(@command) == 0 or die "@command: status $?\n";
}

# A process that serves; it says over the pipe when it may be asked.
sub _start_server {
    my ($self, $name, $addresses, $tcp, $udp) = @_;
    pipe my $ready_r, my $ready_w or die;
    pipe my $go_r, my $go_w or die;
    defined(my $pid = fork) or die "fork: $!";
    if (!$pid) {
        alarm 0;
        $SIG{CHLD} = 'IGNORE';
        syscall(SYS_unshare, CLONE_NEWNET) == 0 or POSIX::_exit(97) if $addresses;
        syswrite $ready_w, 'u';
        sysread $go_r, my $go, 1;
        eval { _serve($self->{log}->filename, $name, $addresses, $tcp, $udp, $ready_w); 1 } or print STDERR "# $name: $@";
        POSIX::_exit(96);
    }
    push @kids, $pid;
    sysread $ready_r, my $up, 1;
    if ($addresses) {
        run('ip', qw(link add up0 type veth peer name net0 netns), $pid);
        run('ip', qw(addr add 192.0.2.2/30 dev up0));
        run('ip', qw(link set up0 up));
        run('nsenter', '-t', $pid, '-n', 'sh', '-c', join ' && ', 'ip link set lo up', 'ip addr add 192.0.2.1/30 dev net0',
            'ip link set net0 up', 'ip route add 10.213.0.0/16 via 192.0.2.2', map { "ip addr add $_/32 dev lo" } @$addresses);
        run('ip', qw(route add default via 192.0.2.1));
    }
    syswrite $go_w, 'g';
    sysread($ready_r, $up, 1) == 1 or die "$name does not serve\n";
    return $pid;
}

sub _start_world {
    my ($self) = @_;
    $self->{world} = $self->_start_server('world', \@ADDRESSES, \@TCP, \@UDP);
}

sub _serve {
    my ($log, $name, $addresses, $tcp, $udp, $ready) = @_;
    my $set = IO::Select->new;
    my (%is_tcp, @keep);
    for my $port (@$tcp) {
        socket my $l, PF_INET, SOCK_STREAM, 0 or die "socket: $!";
        setsockopt $l, SOL_SOCKET, SO_REUSEADDR, 1;
        bind $l, pack_sockaddr_in($port, INADDR_ANY) or die "bind tcp $port: $!";
        listen $l, 50 or die "listen: $!";
        $set->add($l);
        $is_tcp{$l} = 1;
    }
    for my $addr ($addresses ? @$addresses : '0.0.0.0') { # one each, so that the answer has the right source
        for my $port (@$udp) {
            socket my $u, PF_INET, SOCK_DGRAM, 0 or die "socket: $!";
            bind $u, pack_sockaddr_in($port, inet_aton($addr)) or die "bind udp $addr:$port: $!";
            $set->add($u);
        }
    }
    syswrite $ready, 'r';
    while (1) {
        for my $s ($set->can_read) {
            $is_tcp{$s} ? _serve_tcp($log, $name, $s) : _serve_udp($log, $name, $s);
        }
    }
}

sub _note {
    my ($log, $proto, $to, $from) = @_;
    my ($port, $addr) = unpack_sockaddr_in($to);
    my (undef, $peer) = unpack_sockaddr_in($from);
    my $line = "$proto ${\inet_ntoa($addr)}:$port from ${\inet_ntoa($peer)}\n";
    open my $out, '>>', $log or die "$log: $!";
    syswrite $out, $line;
    return $line;
}

sub _serve_tcp {
    my ($log, $name, $l) = @_;
    my $from = accept my $c, $l or return;
    my $line = _note($log, 'tcp', getsockname $c, $from);
    my $pid = fork // return;
    return if $pid;
    alarm 60;
    my $ask = <$c> // '';
    if ($ask =~ /^GET (\d+)/) {
        my ($left, $block) = ($1, 'x' x 65536);
        while ($left > 0) {
            my $n = syswrite($c, $block, $left < 65536 ? $left : 65536) // last;
            $left -= $n;
        }
    } elsif ($ask =~ /^PUT (\d+)/) {
        my $got = 0;
        while ($got < $1 && (my $n = read $c, my $bytes, $1 - $got < 65536 ? $1 - $got : 65536)) { $got += $n }
        syswrite $c, "$got\n";
    } else {
        syswrite $c, "$name $line";
    }
    close $c;
    POSIX::_exit(0);
}

sub _serve_udp {
    my ($log, $name, $u) = @_;
    my $from = recv $u, my $ask, 4096, 0;
    defined $from && length $from or return;
    my ($port) = unpack_sockaddr_in(getsockname $u);
    my $line = _note($log, 'udp', getsockname $u, $from);
    if ($port == 53 && length $ask > 16) { # the question as it came, and one answer
        my ($id) = unpack 'n', $ask;
        my $end = index($ask, "\0", 12) + 5;
        my $is_a = unpack('n', substr $ask, $end - 4, 2) == 1;
        my $answer = $is_a ? pack('n n n N n a4', 0xc00c, 1, 1, 60, 4, inet_aton('203.0.113.10')) : '';
        send $u, pack('n6', $id, 0x8180, 1, $is_a ? 1 : 0, 0, 0) . substr($ask, 12, $end - 12) . $answer, 0, $from;
    } else {
        send $u, "$name $line", 0, $from;
    }
}

# Settings of a service with a network.
sub egress {
    my ($self, %more) = @_;
    return ('network-mode' => 'egress', 'network-manage-forwarding' => 'true', 'namespaces-spares' => 2,
        'namespaces-active-max' => 50, %more);
}

# Everything that was visited since the last time this was asked.
sub seen {
    my ($self) = @_;
    my $path = $self->{log}->filename;
    my @lines = split /\n/, Brood::slurp($path) // '';
    my @new = @lines[$self->{read} // 0 .. $#lines];
    $self->{read} = @lines;
    return @new;
}

# What a service may leave behind in the network, as text.
sub state {
    my $text = join '', map { "== $_\n" . `$_` } 'ip -o link', 'ip -o -4 addr', 'ip route', 'nft list ruleset',
      'cat /proc/sys/net/ipv4/ip_forward';
    return $text =~ s/ (?:valid_lft|qlen|state) \S+//gr;
}

# A command in the netns of a process (as root: more than a run may), its output.
sub inside {
    my ($self, $pid, @command) = @_;
    open my $out, '-|', 'nsenter', '-t', $pid, '-n', @command or die "nsenter: $!";
    local $/;
    return scalar <$out>;
}

sub in_world {
    my ($self, @command) = @_;
    return $self->inside($self->{world}, @command);
}

END { kill KILL => @kids if @kids; }

1;
