# SPDX-License-Identifier: Apache-2.0
# Brood::Pair - the same command warm and exec'ed: two instances, `--zygote bash` and `--zygote exec`.
#
#   my $pair = Brood::Pair->start('fresh');     # the warm one is a fork: runs.memory
#   my $pair = Brood::Pair->start('recycled');  # the warm one is cast by a mould that was used before
#   $pair->same('name', 'echo hi');             # one test: stdout, stderr, how it ended, files left
#   $pair->same('name', 'echo $$', mask => [qr/\d+/]);
#   my ($warm, $exec) = $pair->both('declare -p');
#
# Both use one namespace id, so that host name, user, mounts and limits are equal; each command begins
# with an empty home. A difference is shown line by line, `-` as the exec'ed bash has it, `+` as the warm one.
package Brood::Pair;
use strict;
use warnings;
use Brood;
use Encode qw(encode_utf8);
use File::Find qw(find finddepth);
use File::Path qw(remove_tree);
use File::Temp qw(tempfile);

use constant NS => 'fidelity';

# All that may differ, with the reason. Applied to stdout, stderr and the contents of files.
my @substitutions = (
    [qr/^(\[\d+\][ +-] *)\d{1,7}\b/m, '$1PID', 'the pid in a job notice'],
    [qr/(line \d+:) +\d{1,7}( +[A-Z])/, '$1 PID$2', 'the pid of a process that a signal ended'],
    [qr/\b\d+m\d+\.\d{3}s/, 'TIME', 'the clock, as time and times print it'],
);

sub start {
    my ($class, $memory, %opt) = @_;
    my $self = bless {memory => $memory}, $class;
    for my $kind (qw(bash exec)) {
        $self->{$kind} = Brood->start(zygote => $kind, 'runs-memory' => $kind eq 'bash' ? $memory : 'fresh', %opt);
        $self->{$kind}->sh(NS, 'echo > made');
        my $made = $self->{$kind}->find('made') or BAIL_OUT("no home for the $kind instance");
        ($self->{"home_$kind"} = $made) =~ s{/made$}{};
        $self->_empty_home($kind);
    }
    return $self;
}

sub stop {
    my ($self) = @_;
    $self->{$_}->stop for qw(bash exec);
}

# The two answers, warm first, as {stdout, stderr, exit_code, signal, files}.
sub both {
    my ($self, $cmd, %more) = @_;
    return map { $self->_one($_, $cmd, %more) } qw(bash exec);
}

sub same {
    my ($self, $name, $cmd, %more) = @_;
    my $mask = delete $more{mask} // [];
    my ($warm, $exec) = map { _masked(_text($_), $mask) } $self->both($cmd, %more);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(0, $name) || diag("not run: $warm") unless $warm =~ /\Ahttp: 200$/m;
    return ok($warm eq $exec, $name) || diag(difference($exec, $warm));
}

# Blanks what the patterns match, up to what their groups keep.
sub _masked {
    my ($text, $mask) = @_;
    for my $re (@$mask) {
        $text =~ s/$re/($1 \/\/ '') . '*' . ($2 \/\/ '')/ge;
    }
    return $text;
}

# The lines that differ, in diff's unified form.
sub difference {
    my ($exec, $warm) = @_;
    my ($out_a, $a) = tempfile(UNLINK => 1);
    my ($out_b, $b) = tempfile(UNLINK => 1);
    print {$out_a} $exec;
    print {$out_b} $warm;
    close $_ for $out_a, $out_b;
    return scalar qx(diff -U2 --label exec --label warm $a $b);
}

sub substitute {
    my ($text) = @_;
    for (@substitutions) {
        my ($from, $to) = @$_;
        $text =~ s/$from/my @g = ($1, $2); $to =~ s{\$([12])}{$g[$1 - 1]}gr/ge;
    }
    return $text;
}

sub _one {
    my ($self, $kind, $cmd, %more) = @_;
    $self->{$kind}->recycle(NS) if $kind eq 'bash' && $self->{memory} eq 'recycled';
    my ($http, $json) = $self->{$kind}->execute({namespace_id => NS, cmd => $cmd, timeout => 10, %more});
    my $r = ref $json eq 'HASH' ? $json : {};
    my %seen = (http => $http, map { $_ => $r->{$_} } qw(stdout stderr exit_code signal reason));
    $seen{files} = $self->_files($kind);
    $self->_empty_home($kind);
    return \%seen;
}

sub _text {
    my ($r) = @_;
    my $text = join '', map { sprintf "%s: %s\n", $_, $r->{$_} // 'null' } qw(http exit_code signal reason);
    $text .= "== $_\n" . substitute(encode_utf8($r->{$_} // '')) . "\n" for qw(stdout stderr files);
    return $text;
}

# Every file of the home: mode, type, target or contents.
sub _files {
    my ($self, $kind) = @_;
    my $home = $self->{"home_$kind"};
    my @lines;
    my $look = sub {
        my $path = $File::Find::name;
        my ($name, $mode) = (substr($path, length $home), (lstat $path)[2]);
        my $what = -l _ ? readlink $path : -f _ ? slurp($path) : '';
        push @lines, sprintf "%s %06o %s", $name, $mode, $what;
    };
    find({no_chdir => 1, wanted => $look, preprocess => sub { sort @_ }}, $home);
    return join "\n", @lines;
}

sub _empty_home {
    my ($self, $kind) = @_;
    my $home = $self->{"home_$kind"};
    finddepth({no_chdir => 1, wanted => sub {
        return if $_ eq $home;
        -d $_ && !-l $_ ? rmdir : unlink;
    }}, $home);
}

1;
