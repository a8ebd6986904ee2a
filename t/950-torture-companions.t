# SPDX-License-Identifier: Apache-2.0
# Torture of the way to a companion - priv, engine, primordial with its go-between, the companion itself - as
# t/950-torture.t: it is made beside a warm namespace and a cold one, closed, and made again.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Wire;
use Brood::Torture; # the last: it may take longer

my $t = Brood::Torture->new('sessions-per-namespace' => 2, 'sessions-max' => 4);

# 1: done and right; 0: an error; else what is wrong with it.
sub beside {
    my ($ns) = @_;
    my $wire = Brood::Wire->new($t->brood);
    my @r = map { $wire->run(ns => $ns, session => 's', cmd => 'echo $((6 * 7))', timeout => 4000) } 1, 2;
    my $close = $wire->close_session($ns => 's');
    $wire->close;
    for my $r (@r) {
        next if ($r->{outcome} // 9) == 0 && $r->{stdout} eq "42\n" && $r->{exited} && $r->{exit_code} == 0;
        return 0 if !exists $r->{outcome} || $r->{outcome} =~ /^(?:2|3|4|8)$/;
        return join ' ', 'outcome', map { $_ // 'none' } @$r{qw(outcome reason exit_code signal stdout stderr text)};
    }
    return ($close->{outcome} // 0) =~ /^[06]$/ ? 1 : 0;
}

$t->torture('beside a warm one', $_, sub { beside('base') }) for qw(engine priv primordial zygote child);
$t->torture('beside a cold one', $_, sub { beside($t->fresh) }) for qw(engine priv);
$t->finish;
