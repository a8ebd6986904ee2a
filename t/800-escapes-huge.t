# SPDX-License-Identifier: Apache-2.0
# The attacker hands over as much as it may and more: commands, variables, names, arguments, deep paths and trees.
use lib 't/lib';
use Brood;

my $brood = Brood->start;
my $long = 'x' x (131071 - 11); # MAX_ARG_STRLEN with the NUL, less "true #...  "
my ($status, $json) = $brood->execute({namespace_id => 'mallory', cmd => "echo \${#0} #$long"});
ok($status == 200 || $status == 400, "a command of 128 KiB: $status");
is(length((ref $json ? $json->{stdout} : undef) // '') > 0 || $status == 400, 1, 'and an answer');
($status) = $brood->execute({namespace_id => 'mallory', cmd => 'true #' . 'x' x 131071});
is($status, 400, 'beyond it is refused');
my %env = map { (sprintf('V%03d', $_) => 'v' x 240) } 1 .. 250;
my $r = $brood->sh(mallory => 'env | grep -c ^V; printenv V250 | wc -c', env => \%env);
is($r->{stdout}, "250\n241\n", '250 variables, 60 KiB');
$r = $brood->sh(mallory => 'env | grep -c ^V', env => \%env, cmd => 'env | grep -c ^V #' . 'y' x 100_000);
ok($r->{http} == 200 ? $r->{stdout} eq "250\n" : $r->{http} == 400, "both together: $r->{http}");
($status) = $brood->execute({namespace_id => 'mallory', cmd => 'true', env => {map { ("V$_" => 'x') } 1 .. 257}});
is($status, 400, '257 variables are refused');
($status) = $brood->execute({namespace_id => 'mallory', cmd => 'true', env => {V => 'x' x 66_000}});
is($status, 400, '66,000 bytes are refused');
($status) = $brood->execute({namespace_id => 'mallory', cmd => 'true', env => {'V' x 300 => 'x'}});
is($status, 400, 'a name of 300 characters is refused');
($status) = $brood->execute({namespace_id => 'mallory', cmd => 'true', cwd => '/work/' . 'd/' x 3000});
is($status, 400, 'a cwd of 6 KiB is refused');

# Within a run: the kernel's own limit for arguments, bash's memory, a file name, a deep tree.
$r = $brood->sh(mallory => 'a=$(printf "%03000000d" 1); /bin/true "$a"; echo "status $?"');
is($r->{stdout}, "status 126\n", 'an argument of 3 MB is refused by execve, in bash\'s words');
like($r->{stderr}, qr/Argument list too long/, 'which are these');
$r = $brood->sh(mallory => 'touch "$(printf "%0300d" 1)"');
like($r->{stderr}, qr/File name too long/, 'a name of 300 bytes is refused');
$r = $brood->sh(mallory => q{perl -e 'my $n = 0; while ($n < 3000) { mkdir "d" or last; chdir "d" or last; $n++ } print $n'}, timeout => 20);
is($r->{stdout}, 3000, 'a tree 3,000 deep can be made');
$r = $brood->sh(mallory => 'cat /proc/self/cmdline | tr "\0" " "; exec -a "$(printf "%0100000d" 1)" true', timeout => 5);
is($r->{exit_code}, 0, 'a name of 100 kB for a process');
is(scalar(grep { $_->{role} eq 'frontend' } $brood->processes), 1, 'the frontend lives');

# And it must be possible to remove it: with the depth, with names that mean something to careless shells.
$brood->sh(mallory => q{mkdir -p 'a b' "$(printf 'new\nline')" -- '-rf' '$(id)' '*'; chmod 0 'a b'; mkdir sealed; touch sealed/x; chmod 0 sealed});
my $out = `B=1 ${\Brood::build()}/brood ns rm --socket $brood->{socket} mallory 2>&1`;
is($?, 0, 'the namespace is removed') or diag($out);
ok(until_true(20, sub { !grep { !/^\.lock$/ } $brood->volumes }), 'with everything in it') or diag(join ' ', $brood->volumes);
is($brood->sh(mallory => 'ls -A')->{stdout}, '', 'and comes again empty');

$brood->stop;
done_testing;
