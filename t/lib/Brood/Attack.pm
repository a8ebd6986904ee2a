# SPDX-License-Identifier: Apache-2.0
# Brood::Attack - a tenant's Perl program that tries things one after the other and says what came of it.
#
#   use Brood::Attack;
#   my $got = attack($brood, mallory => 'call(mount => 165, "none", "/tmp", "tmpfs", 0, 0);');
#   refused($got, mount => qr/EPERM/);          # one test: tried, and refused for that reason
#   done($got, 'mount');                        # one test: tried, and it worked
#   my $host = on_host('call(mount => 165, ...);');
#   control($host, 'mount');                    # one test: the very same attack works where nothing stops it
#
# A program that dies, is not found or forgets to report fails each of its tests: an attack that was never
# made must not count as repelled. The host's copy runs as root in kernel namespaces of its own, so that what
# works there does no harm.
package Brood::Attack;
use strict;
use warnings;
use Exporter qw(import);
use File::Temp qw(tempfile);
use Test::More;

our @EXPORT = qw(attack on_host refused done control said);

# What every attack begins with. Only what perl-base holds: the root image may have no more.
my $prelude = <<'PERL';
use strict; use warnings; use Errno; use Fcntl qw(:DEFAULT :mode); use Socket;
$| = 1;
sub error { my $n = 0 + $!; return 'none' unless $n; for (keys %!) { return $_ if $!{$_} } return "errno$n" }
sub report { my ($name, $ok, $detail) = @_; $detail =~ s/[\t\n]/ /g; print "$name\t", $ok ? 'done' : 'refused', "\t$detail\n"; return $ok }
sub call { # a raw system call: numbers stay numbers, strings are buffers (literals can be none, hence the copies)
    my ($name, $nr, @args) = @_;
    $! = 0;
    my $r = syscall $nr, @args;
    my $why = error();
    for my $i (0 .. $#args) { $_[$i + 2] = $args[$i] unless Internals::SvREADONLY($_[$i + 2]) || $args[$i] eq $_[$i + 2] }
    report($name, $r != -1, $r != -1 ? $r : $why);
    return $r;
}
sub try { # anything that says true for "it worked"
    my ($name, $code) = @_;
    $! = 0;
    my $r = eval { $code->() };
    my $why = $@ || error();
    report($name, !!$r, $r ? $r : $why);
    return $r;
}
sub spill { my ($path, $text, $flags) = @_; sysopen my $f, $path, $flags // (O_WRONLY | O_CREAT), 0644 or return 0; my $n = syswrite $f, $text; return defined $n }
sub peek { my ($path) = @_; sysopen my $f, $path, O_RDONLY or return 0; my $n = sysread $f, my $text, 4096; return defined $n ? "read:$text" : 0 }
PERL

sub parse {
    my ($raw) = @_;
    my %got = ('' => $raw);
    for (split /\n/, $raw->{stdout}) {
        my ($name, $state, $detail) = split /\t/, $_, 3;
        $got{$name} = [$state, $detail] if defined $state && $state =~ /^(?:done|refused)$/;
    }
    diag("the attack said: $raw->{stderr}") if length $raw->{stderr} && $ENV{BROOD_TEST_VERBOSE};
    return \%got;
}

# Runs the program in the namespace; {name => [done|refused, detail], '' => the answer}.
sub attack {
    my ($brood, $ns, $code, %more) = @_;
    return parse($brood->sh($ns => 'exec perl -', stdin => "$prelude\n#line 1 attack\n$code\nprint qq(end\\tdone\\t\\n);\n", %more));
}

# The same on the host, as root.
sub on_host {
    my ($code) = @_;
    my ($fh, $path) = tempfile('brood-attack-XXXXXX', DIR => '/tmp', UNLINK => 1);
    print {$fh} "$prelude\n$code\nprint qq(end\\tdone\\t\\n);\n";
    close $fh;
    my $out = `unshare --mount --propagation private --pid --fork --kill-child --ipc --uts perl $path 2>/dev/null </dev/null`;
    return parse({stdout => $out, stderr => ''});
}

sub _fail {
    my ($got, $what) = @_;
    my $raw = $got->{''};
    return fail($what) || diag('not tried: http ', $raw->{http} // '-', ', exit ', $raw->{exit_code} // '-', ', signal ', $raw->{signal} // '-', "\n$raw->{stdout}$raw->{stderr}");
}

sub refused {
    my ($got, $name, $why, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $what //= "$name is refused";
    my $result = $got->{$name} or return _fail($got, $what);
    return ok($result->[0] eq 'refused' && $result->[1] =~ ($why // qr//), "$what ($result->[1])")
      || diag("$name: $result->[0] $result->[1]");
}

sub done {
    my ($got, $name, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $what //= "$name works";
    my $result = $got->{$name} or return _fail($got, $what);
    return is($result->[0], 'done', $what) || diag("$name: $result->[1]");
}

# The attack is a real one: outside it works. A kernel without the call has nothing to attack.
sub control {
    my ($got, @names) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $name (@names) {
        my $result = $got->{$name};
        if (!$result) { _fail($got, "control: $name") }
        elsif ($result->[0] eq 'refused' && $result->[1] =~ /ENOSYS|EOPNOTSUPP/) { pass("control: $name is not in this kernel") }
        else { is($result->[0], 'done', "control: outside $name works") || diag($result->[1]) }
    }
    return;
}

# What an attack said of a step.
sub said {
    my ($got, $name) = @_;
    return ($got->{$name} // ['', ''])->[1];
}

1;
