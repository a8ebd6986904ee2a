# SPDX-License-Identifier: Apache-2.0
use strict;
use warnings;
use Carp qw(confess);
use IO::Socket::INET;
sub inner { confess 'told to' }
my ($mode, @args) = @ARGV;
my %modes = (
    hello => sub { print "Hello, World!\n" },
    stdin => sub { print while <STDIN> },
    args => sub { print map({"[$_]"} @args), "\n" },
    env => sub { print "$ENV{GREETING}\n" },
    exit => sub { exit 3 },
    throw => sub { inner() },
    loop => sub { 1 while 1 },
    alloc => sub { my $n = 1 << 30; print length('x' x $n), "\n" }, # a constant would be folded while compiling
    flood => sub { print 'x' x 10485760 },
    threads => sub {
        for my $i (1 .. 4) { my $pid = fork // die; exit $i unless $pid }
        my $sum = 0;
        $sum += $? >> 8 while wait > 0;
        print "$sum\n";
    },
    write => sub { open my $o, '>', '/work/outputs/made.txt' or die; print $o "made here\n" },
    read => sub { open my $i, '<', 'in.txt' or die; print while <$i> },
    net => sub { print IO::Socket::INET->new(PeerAddr => '1.1.1.1:80', Timeout => 2) ? "connected\n" : "none\n" },
);
$modes{$mode}->();
