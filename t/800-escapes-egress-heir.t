# SPDX-License-Identifier: Apache-2.0
# The attacker waits for somebody else's address: when a namespace gives its zygote up, another gets its slot and with
# that its address. An answer that is still under way to the first must not arrive at its heir.
use lib 't/lib';
use Brood;
use Brood::Net;

my $net = Brood::Net->new;
# 65 slots, taken in turn, two of them in use.
my $brood = Brood->start($net->egress('network-allow' => 'udp://203.0.113.10:7002', 'namespaces-spares' => 0, 'namespaces-active-max' => 1,
    'sessions-max' => 0, 'terminals-max' => 0)); # which have slots, too
my $listen = <<'PERL';
use Socket;
socket my $s, PF_INET, SOCK_DGRAM, 0; bind $s, pack_sockaddr_in(40000, INADDR_ANY) or die;
send $s, 'x', 0, pack_sockaddr_in(7002, inet_aton('203.0.113.10')) if $ENV{ASK};
open my $f, '>', 'up'; close $f;
for (1 .. 200) { vec(my $set = '', fileno $s, 1) = 1; if (select $set, undef, undef, 0.02) { recv $s, my $l, 100, 0; $l eq 'secret' or next; print "got it\n"; exit } last if -e 'done' }
print "nothing\n";
PERL
my $answer = q{use Socket; socket my $s, PF_INET, SOCK_DGRAM, 0; bind $s, pack_sockaddr_in(7002, inet_aton('203.0.113.10')) or die "bind $!"; send $s, 'secret', 0, pack_sockaddr_in(40000, inet_aton('192.0.2.2')) or die "send $!"};

my $find = q{perl -ne '/32 host LOCAL/ && $last =~ /^10[.]213/ and print $last and exit; $last = $1 if /(\d+[.]\d+[.]\d+[.]\d+)/' /proc/net/fib_trie};
sub address { my ($ns) = @_; return $brood->sh($ns => $find)->{stdout} }

sub visit { # a listener in that namespace: its address, and whether it got what came late
    my ($ns, $asks) = @_;
    my $conn = $brood->post($ns => 'exec perl -', stdin => $listen, env => {ASK => $asks}, timeout => 20);
    $brood->wait_file('up') or return ('', 'did not start');
    $net->in_world('perl', '-e', $answer);
    select undef, undef, undef, 0.1 if !$asks; # nothing to wait for but its absence
    spew("$brood->{fs_root}/$ns/done") if !$asks;
    my $said = $brood->result($conn, 20)->{stdout};
    unlink "$brood->{fs_root}/$ns/up";
    return (address($ns), $said);
}

my ($own, $said) = visit(alice => 'yes');
is($said, "got it\n", "control: an answer that comes in time is heard at $own");
my $again;
for my $i (1 .. 80) {
    next unless address("other$i") eq $own;
    $again = "other$i";
    last;
}
ok($again, 'its address has an heir') or diag 'never again ' . $own;
my ($heirs, $heard) = visit($again // 'nobody' => '');
is($heirs, $own, 'at the same address');
is($heard, "nothing\n", 'who does not hear the late answer');

$brood->stop;
done_testing;
