# SPDX-License-Identifier: Apache-2.0
# bob wants to read and change what alice has: by path, by link, through /proc, while she runs and while she does not.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $secret = 'the-secret-of-alice';
$brood->sh(alice => "umask 0; mkdir open; echo $secret > note.txt; echo $secret > open/note.txt; chmod -R a+rwX ~; echo $secret > /tmp/note.txt; echo $secret > /dev/shm/note.txt");
is($brood->sh(alice => 'cat note.txt')->{stdout}, "$secret\n", 'control: alice reads it');
my $alice = $brood->post(alice => "exec -a $secret perl -e 'select undef, undef, undef, 0.02 until -e q(done)'", env => {SECRET => $secret});
ok(until_true(5, sub { scalar grep { (slurp("/proc/$_/cmdline") // '') =~ /$secret/ } $brood->pids('child') }), 'and has a process with the secret in its arguments');
my ($child) = grep { (slurp("/proc/$_/cmdline") // '') =~ /$secret/ } $brood->pids('child');
my $zygote = $brood->sh(bob => 'true') && $child && (slurp("/proc/$child/status") =~ /^PPid:\s+(\d+)/m)[0];
my $fs_root = $brood->{fs_root};

(my $pattern = $secret) =~ s/s/[s]/; # or the search finds itself
my $r = $brood->sh(bob => "grep -rs '$pattern' / --include=note.txt --include=cmdline --include=environ -l 2>/dev/null; find / -name note.txt 2>/dev/null; echo searched");
is($brood->sh(alice2 => "echo $secret > note.txt; grep -rs '$pattern' / --include=note.txt --include=cmdline -l 2>/dev/null | grep -v ^/proc | sort -u | head -n 1")->{stdout}, "/work/note.txt\n", 'control: which does find what is there');
is($r->{stdout}, "searched\n", 'a search of everything that bob can see finds nothing of alice');
for my $path ("$fs_root/alice/note.txt", '../alice/note.txt', '/home/alice/note.txt', '/work/../alice/note.txt', '../../../../../../..' . "$fs_root/alice/note.txt",
    "/proc/$child/root/work/note.txt", "/proc/$child/cwd/note.txt", "/proc/$child/environ", "/proc/$child/cmdline", "/proc/$child/mem",
    "/proc/$zygote/root/work/note.txt", '/proc/1/root/work/note.txt', "/proc/1/root$fs_root/alice/note.txt", '/proc/1/cwd/note.txt') {
    $r = $brood->sh(bob => "cat -- '$path'");
    ok($r->{http} == 200 && $r->{exit_code} && $r->{stdout} !~ /\Q$secret/, "bob does not read $path") or diag($r->{stdout}, $r->{stderr});
}
$r = $brood->sh(bob => "ln -s $fs_root/alice l1; ln -s ../alice l2; ln -s /proc/1/root l3; cat l1/note.txt l2/note.txt l3$fs_root/alice/note.txt");
unlike($r->{stdout}, qr/\Q$secret/, 'symbolic links lead nowhere');
isnt($brood->sh(bob => "ln $fs_root/alice/note.txt hard")->{exit_code}, 0, 'nor do hard links');
my $got = attack($brood, bob => <<"PERL");
call(handle => 304, -100, pack('iI', 8, 1) . "\\0" x 120, 0);
try('up by openat' => sub { opendir my \$d, '/work' or die; my \$up = '../' x 40; peek("\${up}proc/1/root/etc/shadow") });
chdir '/work'; my \$names = join ' ', map { chdir '..' ? do { opendir my \$d, '.'; join ',', sort grep { !/^\\./ } readdir \$d } : 'x' } 1 .. 3;
print "names\\tdone\\t\$names\\n";
PERL
refused($got, 'handle', qr/^EPERM$/);
refused($got, 'up by openat');
unlike(said($got, 'names'), qr/alice|bob/, 'no directory above home names a namespace');
# A link out of bob's own volume must not lead our own processes anywhere either.
$brood->sh(bob => "ln -s $fs_root/alice cwd-link; ln -s / root-link");
for my $cwd ('/work/cwd-link', '/work/root-link', '/work/root-link/etc', '/work/../../etc', '/tmp/../etc', '/etc', '/') {
    my ($status, $json) = $brood->execute({namespace_id => 'bob', cmd => 'pwd -P', cwd => $cwd});
    is($status, 400, "cwd $cwd is refused");
}
spew("$fs_root/alice/done");
is($brood->result($alice, 5)->{http}, 200, 'alice ran on undisturbed');
is($brood->sh(alice => 'cat note.txt open/note.txt')->{stdout}, "$secret\n" x 2, 'and all hers is as it was');
is($brood->sh(bob => 'ls -A /tmp /dev/shm | grep note')->{stdout}, '', 'her /tmp is not his');

$brood->stop;
done_testing;
