# SPDX-License-Identifier: Apache-2.0
# Torture of the way of a terminal - frontend, engine, pid 1 of its companion, the child that becomes its shell - as
# t/950-torture.t. Besides: a connection that stays open has a terminal that answers, with every byte it wrote; one that
# cannot have it is closed; and whatever failed, its name is free again.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;
use Brood::Ws;
use Errno qw(EIO);

use constant FIONREAD => 0x541b;

my $t;
my $n = 0;
my $all = '/v1/namespaces/base/terminals';

sub names { my $r = $t->ask(GET => $all) // return; return map { $_->{name} } @{($r->{json} // {})->{terminals} // [{name => '?'}]} }

# What is wrong with it: '' when it is closed, as it has to be when it does not answer.
sub closed {
    my ($w, $what) = @_;
    my $code = $w->ended(30) // return "$what: neither an answer nor the end";
    $t->{said} = "$what: closed with $code" . join '', map { ", $_->{event} " . ($_->{code} // $_->{reason} // '') } @{$w->{events}};
    return '';
}

# A command's output, without its echo. Up to the next prompt: before it, readline gets the size of the terminal and
# sets it again, and one that came in between is lost.
sub shows {
    my ($w, $cmd) = @_;
    $w->type("echo BEG''IN; $cmd; echo E''ND\r");
    my $text = $w->until(qr/BEGIN\r\n(.*?)END\r\n/s, 30);
    $text = undef if defined $text && !defined $w->until(qr/\$ /, 30);
    return defined $text ? $text =~ s/\r\n/\n/gr : undef;
}

# Bytes that the kernel has for us.
sub waiting {
    my ($w) = @_;
    my $bytes = pack 'i', 0;
    return ioctl($w->{conn}{sock}, FIONREAD, $bytes) ? unpack 'i', $bytes : 0;
}

# True: it was done and right. False: {said} says how it ended. A text: what is wrong.
sub use_it {
    my ($path, $name) = @_;
    my $w = Brood::Ws->open($t->brood, "$path&cols=100&rows=30") or return 0;
    return $w->{conn}{why} eq 'timeout' ? 'no answer in time' : $w->{status} && $w->{status} < 500 ? "status $w->{status}" : 0 if $w->{status} != 101;
    my $e = $w->event('attached', 30) or return closed($w, 'attached') || 0;
    my $r = shows($w, 'stty size') // return closed($w, 'stty size') || 0;
    return "size $r" if $r ne "30 100\n";
    $w->tell({resize => {cols => 90, rows => 20}});
    $r = shows($w, 'stty size') // return closed($w, 'resized') || 0;
    return "resized $r" if $r ne "20 90\n";
    # More than the kernel takes for who does not read. (Not with until(): that would look at all of it for each frame.)
    my $at = length $w->{out};
    $w->type("echo BE''GIN; seq 100000 | cat; echo E''ND\r");
    my $before = 0;
    until_true(1, sub { my $now = waiting($w); return $now && $now == $before || (($before = $now), 0)[1] });
    1 until length $w->{out} > $at + 600_000 && substr($w->{out}, -200) =~ /END\r\n/ || defined $w->{code} || !$w->step(30);
    my ($text) = substr($w->{out}, $at) =~ /BEGIN\r\n(.*?)END\r\n/s or return closed($w, 'much') || 0;
    return 'not every byte of much' if $text ne join '', map { "$_\r\n" } 1 .. 100000;
    $w->{seen} = length $w->{out};
    $w->type("bash -c \"echo BE''FORE; exec sleep 1000\"\r");
    $w->until(qr/BEFORE\r\n/, 30) // return closed($w, 'a long command') || 0;
    $w->tell({signal => 'INT'});
    shows($w, ':') // return closed($w, 'a signal') || 0;
    $w->break;
    $w = Brood::Ws->open($t->brood, $path) or return 0;
    return $w->{conn}{why} eq 'timeout' ? 'no answer again' : 0 if $w->{status} != 101;
    $e = $w->event('attached', 30) or return closed($w, 'attached again') || 0;
    return 'it is another one' if $e->{created} && (names())[0] && !$t->has_fired;
    return 0 if $e->{created};
    return 'nothing is shown again' if !$e->{replayed};
    $w->type("exit 7\r");
    $e = $w->event('exit', 30) or return closed($w, 'exit') || 0;
    my $code = $w->ended(30) // return 'not closed behind its exit';
    return $e->{exit_code} == 7 && $code == 1000 ? 1 : "exit $e->{reason} $e->{exit_code}, closed with $code" if $e->{reason} eq 'exit';
    return 0;
}

sub terminal {
    my $name = 'term-' . ++$n;
    my $r = use_it("/v1/namespaces/base/terminal?name=$name", $name);
    until_true(20, sub {
        return 1 if $t->brood->exited;
        my @names = names();
        $t->ask(DELETE => "$all/$_") for grep { $_ ne '?' } @names;
        return !@names;
    }) or return 'it is still listed: ' . join ', ', names();
    return $r;
}

# Of a pty EIO: nobody has it open, so that what was typed is nobody's.
$t = Brood::Torture->new('terminals-per-namespace' => 2, lies => [[qr/terminal/, EIO]], seconds => 1);
$t->torture(terminal => $_, \&terminal) for qw(frontend engine);
$t->torture(terminal => 'zygote', \&terminal, only => qr/serve|packet/); # the rest: t/950-torture-companions.t
$t->torture(terminal => 'child', \&terminal, only => qr/terminal|packet/); # t/953-torture-child.t;
$t->finish;
