# SPDX-License-Identifier: Apache-2.0
# kill -9 of the frontend at each step of storing a file (strace delivers the signal at the system call), between upload
# and answer, and during a download: nothing half-visible afterwards, and what was answered before is there. And what is no
# state directory is refused, by name.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use POSIX ();

require_layer('root', 'strace', 'sqlite3');
my $B = 'boundary1234';

sub form {
    my ($data) = @_;
    return "--$B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n$data\r\n--$B--\r\n";
}

sub post {
    my ($data) = @_;
    return Brood::Conn->request(POST => '/v1/files', body => form($data), headers => {'Content-Type' => "multipart/form-data; boundary=$B"});
}

sub upload {
    my ($brood, $data) = @_;
    my $conn = $brood->connect or return;
    $conn->put(post($data));
    my $res = $conn->get(20) or return;
    return $res->{json}{id};
}

sub objects {
    my ($brood) = @_;
    return sort map { m{([^/]+)\z} } grep { !m{/\.\.?\z} } glob "$brood->{fs_root}.state/objects/* $brood->{fs_root}.state/objects/.*";
}

# The service is up again after its frontend died.
sub is_back {
    my ($brood, $old, $what) = @_;
    ok(until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $old }) && $brood->wait_ready(20), "$what: it is started again");
}

# The frontend's pid, once it has lived so long that its death is none in a crash loop (supervisor/engine.c).
sub grown_up {
    my ($brood) = @_;
    my ($pid) = $brood->pids('frontend');
    until_true(10, sub {
        my ($began) = ((slurp("/proc/$pid/stat") // '') =~ /\) (.*)/)[0] =~ /^(?:\S+ ){19}(\d+)/;
        my ($up) = slurp('/proc/uptime') =~ /^(\S+)/;
        return $up - $began / POSIX::sysconf(&POSIX::_SC_CLK_TCK) > 1.2;
    }) or fail('the frontend grows old');
    return $pid;
}

my $brood = Brood->start;
my $first = 'first' x 1000;
my $id = upload($brood, $first);
my %known = (sha256_hex($first) => 1);
my @steps = (    # system call, which one, is the file there afterwards: 1 yes, 0 no, -1 either
    # (a file that was renamed without its row goes with the start; a commit that was written may survive without its sync)
    ['openat', 1, 0], ['write', 1, 0], ['fsync', 1, 0], ['renameat', 1, 0], ['fsync', 2, -1],
    ['pwrite64', 1, 0], ['pwrite64', 2, -1], ['fdatasync', 1, -1], ['write', 2, 1],    # that one tells the loop
);
for (@steps) {
    my ($call, $nth, $there) = @$_;
    my $what = "killed at $call $nth";
    my $pid = grown_up($brood);
    my ($thread) = grep { $_ != $pid } map { m{(\d+)\z} } glob "/proc/$pid/task/*";
    my $data = "$what\n" x 100;
    my $log = "$brood->{dir}/strace-$call-$nth";
    defined(my $tracer = fork) or die;
    if (!$tracer) {
        open STDERR, '>', "$log.err";
        exec 'strace', '-o', $log, '-p', $thread, '-e', "trace=$call,futex", '-e', "inject=$call:signal=KILL:when=$nth" or POSIX::_exit(9);
    }
    until_true(10, sub { (slurp("/proc/$thread/status") // '') =~ /^TracerPid:\s+[1-9]/m }) or fail("$what: strace attaches");
    my $conn = $brood->connect;
    $conn->put(post($data));
    my $res = $conn->get(20);
    is($res, undef, "$what: no answer");
    waitpid $tracer, 0;
    is_back($brood, $pid, $what);
    my $is = grep { $_ eq sha256_hex($data) } objects($brood);
    ok($there < 0 || $is == $there, "$what: the file is " . ($is ? 'there' : 'not there'));
    $known{sha256_hex($data)} = 1 if $is;
    is_deeply([objects($brood)], [sort keys %known], "$what: nothing else, and nothing half");
    is(($brood->request(GET => "/v1/files/$id") // {})->{body}, $first, "$what: what was there is");
}

{
    my $pid = grown_up($brood);
    my $conn = $brood->connect;
    $conn->put(Brood::Conn->request(GET => '/health'));
    is($conn->get(20)->{status}, 200, 'a connection that was accepted');    # others the next frontend serves
    kill STOP => $pid;
    $conn->put(post('never read'));
    kill KILL => $pid;
    is($conn->get(20), undef, 'killed before the request was read: no answer');
    is_back($brood, $pid, 'killed before the request was read');
    is_deeply([objects($brood)], [sort keys %known], 'nothing was stored');
}

# A download that is cut is seen to be cut, and can go on.
{
    my $large = join '', map { pack 'N', $_ } 1 .. 4_000_000;
    my $of = upload($brood, $large);
    $known{sha256_hex($large)} = 1;
    my $pid = grown_up($brood);
    my $conn = $brood->connect;
    $conn->put("GET /v1/files/$of HTTP/1.1\r\nHost: x\r\n\r\n");
    ok(until_true(10, sub { $conn->readable(1) && sysread($conn->{sock}, $conn->{buf}, 65536, length $conn->{buf}); length $conn->{buf} > 100_000 }), 'a download has begun');
    kill KILL => $pid;
    is($conn->get(20), undef, 'killed: it does not end as if it were whole');
    is_back($brood, $pid, 'killed during a download');
    my ($head) = $conn->{buf} =~ /\A(.*?\r\n\r\n)/s;
    my $got = length($conn->{buf}) - length($head // '');
    my $rest = $brood->request(GET => "/v1/files/$of", headers => {Range => 'bytes=1000000-'});
    ok($rest->{status} == 206 && $rest->{body} eq substr($large, 1_000_000), 'the rest is to be had');
}

# Many at once, killed in the middle, again and again: each answer that came is true.
{
    my %answered;
    for my $round (1 .. 6) {
        my $pid = grown_up($brood);
        my @conns = map { $brood->connect } 1 .. 8;
        my %sent;
        for my $i (0 .. $#conns) {
            $conns[$i]->put(post($sent{$i} = "round $round, $i\n" x 2000));
        }
        select undef, undef, undef, 0.003 * $round;
        kill KILL => $pid;
        for my $i (0 .. $#conns) {
            my $res = $conns[$i]->get(20) or next;
            $answered{$res->{json}{id}} = $sent{$i} if $res->{status} == 200;
        }
        until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $pid }) && $brood->wait_ready(20) or fail("round $round: started again");
    }
    my $lost = grep { ($brood->request(GET => "/v1/files/$_") // {body => ''})->{body} ne $answered{$_} } keys %answered;
    is($lost, 0, keys(%answered) . ' answers, all true');
}
my ($dir) = "$brood->{fs_root}.state";
$brood->stop;
{
    my %rows = map { $_ => 1 } split /\n/, `sqlite3 $dir/store.db 'select lower(hex(sha256)) from objects'`;
    is_deeply([objects($brood)], [sort keys %rows], 'every row has its file, every file its row');
    is(`sqlite3 $dir/store.db 'select count(*) from objects o where refs != (select count(*) from files f where f.sha256 = o.sha256)'`, "0\n", 'references are counted');
    my %bad = map { $_ => 1 } grep { sha256_hex(slurp("$dir/objects/$_")) ne $_ } keys %rows;
    is_deeply(\%bad, {}, 'every file is what its name says');
    unlink "$dir/store.db-shm";
}

# ---- what is no state directory ---------------------------------------------------------------------

sub refuses {
    my ($what, $re, %opt) = @_;
    my $it = Brood->start(ready => 0, %opt);
    ok($it->wait_exit(20) && $it->{status} != 0, "$what: it does not start");
    like(slurp($it->{log}), $re, "$what: and says why");
}

my $uid = (stat $dir)[4];
refuses('a damaged database', qr/store\.db: .*move it and objects/, dir => $brood->{dir}) if do {
    chown $uid, $uid, glob "$dir/store.db*";
    open my $db, '+<', "$dir/store.db" or die;
    print {$db} 'x' x 200;
    close $db;
};
unlink glob "$dir/store.db*";
refuses('no database, but files', qr/store\.db is missing or empty.*move objects/, dir => $brood->{dir});
ok(scalar(() = objects($brood)), 'the files stay');
system 'rm', '-rf', $dir;
mkdir "$dir.real", 0700 or die;
symlink "$dir.real", $dir or die;
refuses('a link', qr/state_dir .*not a link/, dir => $brood->{dir});
unlink $dir;
is((stat "$dir.real")[4], 0, 'what it led to is as it was');
mkdir $dir, 0700 or die;
chown 12345, 12345, $dir;
refuses("somebody else's", qr/state_dir .*belongs to user 12345/, dir => $brood->{dir});
rmdir $dir;
spew($dir, 'x');
refuses('a file', qr/state_dir .*expected a directory/, dir => $brood->{dir});
unlink $dir;
refuses('below fs_root', qr/state-dir: expected a path outside of fs_root/, dir => $brood->{dir}, 'state-dir' => "$brood->{fs_root}/state");
my $one = Brood->start;
refuses("another service's", qr/in use by another brood/, 'state-dir' => "$one->{fs_root}.state");
$one->stop;
mkdir $dir, 0700;
spew("$dir/url.key", 'short');
chown $uid, $uid, $dir, "$dir/url.key";
refuses('a broken secret', qr/url\.key: expected 32 random bytes/, dir => $brood->{dir});
unlink "$dir/url.key";
my $again = Brood->start(dir => $brood->{dir});
ok(upload($again, 'x'), 'and with an empty directory it serves');
$again->stop;
done_testing;
