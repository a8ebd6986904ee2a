# SPDX-License-Identifier: Apache-2.0
# The life of namespaces: zygotes come from a pool, go when idle or when others need the place, and the files stay;
# what exists is what lies below fs_root, owned by uid 1000 there; `brood ns rm` takes all of it away.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

# What the fact `start` says of the three ways: the static fallback has one word for all.
my ($WARM, $SPARE, $COLD) = ($ENV{BROOD_TEST_ZYGOTE} // '') eq 'exec' ? ('exec') x 3 : qw(warm spare cold);

# Is there no zygote with this pid any more?
sub is_gone {
    my ($brood, $pid) = @_;
    return until_true(5, sub { !grep { $_ == $pid } $brood->pids('zygote') });
}

# Who has a zygote: {namespace => pid}; spares are under ''.
sub holders {
    my ($brood) = @_;
    my %of = ('' => []);
    for my $pid ($brood->pids('zygote')) {
        my $mounts = slurp("/proc/$pid/mountinfo") // next;
        if ($mounts =~ m{/([^/ ]+) /work }) { $of{$1} = $pid }
        else { push @{$of{''}}, $pid }
    }
    return \%of;
}

sub cli {
    my ($brood, @args) = @_;
    my $words = join ' ', map { quotemeta } @args, '--socket', $brood->{socket};
    open my $out, '-|', Brood::build() . "/brood $words 2>/dev/null" or die;
    my $text = do { local $/; <$out> } // '';
    close $out;
    return ($? >> 8, $text);
}

subtest 'an idle namespace gives its zygote up' => sub {
    my $brood = Brood->start('namespaces-idle' => '300ms', 'namespaces-spares' => 2);
    my $zygote = $brood->zygote_of('alice');
    $brood->sh(alice => 'echo kept > note.txt; mkdir -m 0 sealed; ln -s /etc link; echo lost > /tmp/note.txt');
    my $busy = $brood->post(bob => 'touch bob-runs; sleep 1.8; echo busy');
    $brood->wait_file('bob-runs');
    ok(is_gone($brood, $zygote), 'the zygote ends');
    my $r = $brood->sh(alice => 'cat note.txt; stat -c "%a %F" sealed link; ls -A /tmp');
    is($r->{stdout}, "kept\n0 directory\n777 symbolic link\n", 'the files are there for the next one; /tmp is empty');
    like($r->{start}, qr/^(?:$SPARE|$COLD)$/, "which was $r->{start}");
    isnt($brood->zygote_of('alice'), $zygote, 'another process');
    is($brood->result($busy)->{stdout}, "busy\n", 'a namespace that runs is not idle');
    my @starts = map { select undef, undef, undef, 0.1; $brood->sh(carol => 'true')->{start} } 1 .. 8;
    is(scalar(grep { $_ eq $WARM } @starts[1 .. 7]), 7, 'nor is one that is used now and then');
    $brood->stop;
};

subtest 'the least recently used one makes place' => sub {
    my $brood = Brood->start('namespaces-active-max' => 3, 'namespaces-spares' => 1);
    my %zygote = map { ($_ => $brood->zygote_of($_)) } qw(alice bob carol);
    $brood->sh($_ => "echo $_ > name") for qw(carol bob alice); # now carol is the oldest
    is($brood->sh(dave => 'echo dave > name; cat name')->{stdout}, "dave\n", 'a fourth of three');
    ok(is_gone($brood, $zygote{carol}), 'carol was used longest ago and is gone');
    my %alive = map { $_ => 1 } $brood->pids('zygote');
    ok($alive{$zygote{$_}}, "$_ is still there") for qw(alice bob);
    is($brood->sh($_ => 'cat name')->{stdout}, "$_\n", "files of $_") for qw(alice bob carol dave);
    $brood->stop;
};

subtest 'more namespaces than may be active' => sub {
    my $brood = Brood->start('namespaces-active-max' => 4, 'namespaces-spares' => 2, 'runs-max-wait' => '30s');
    my @wrong = grep { $brood->sh("many-$_" => "echo $_ > n; cat n")->{stdout} ne "$_\n" } 1 .. 30;
    is("@wrong", '', '30 of 4, one after the other');
    my ($most, $spares) = (0, 0);
    my @conns = map { $brood->post("many-$_" => "sleep 0.05; cat n; echo again >> n") } 1 .. 30;
    my $before = {};
    until_true(20, sub {
        my $of = holders($brood);
        my $both = grep { $_ ne '' && $of->{$_} == ($before->{$_} // 0) } keys %$of; # at one moment, which one look is not
        $most = $both if $both > $most;
        $before = $of;
        $spares = @{$of->{''}} if @{$of->{''}} > $spares;
        !grep { !$_->readable } @conns;
    });
    is(join('', map { $brood->result($_)->{stdout} } @conns), join('', map { "$_\n" } 1 .. 30), '30 of 4, all at once: each gets its turn');
    cmp_ok($most, '<=', 4, "never more than four have a zygote ($most)");
    cmp_ok($most, '>', 0, 'but some have');
    cmp_ok($spares, '<=', 2 + 4, "nor are many more kept ready than two, beside those on their way ($spares)");
    is(join('', map { $brood->sh("many-$_" => 'cat n')->{stdout} } 1 .. 30), join('', map { "$_\nagain\n" } 1 .. 30), 'and keeps its files');
    # All places taken by runs: who comes next waits, and gets the first one that is free.
    my @long = map { $brood->post("long-$_" => "touch long-$_; sleep 0.8; echo $_") } 1 .. 4;
    $brood->wait_file("long-$_") for 1 .. 4;
    my $r = $brood->sh(late => 'echo late');
    is($r->{stdout}, "late\n", 'beyond four running ones the fifth waits');
    cmp_ok($r->{queue_ms}, '>', 100, "for one of them ($r->{queue_ms} ms)");
    is(join('', map { $brood->result($_)->{stdout} } @long), "1\n2\n3\n4\n", 'none of which is disturbed');
    $brood->stop;
};

subtest 'the pool of spares' => sub {
    my $brood = Brood->start('namespaces-spares' => 4);
    ok(until_true(5, sub { 4 == (() = $brood->pids('zygote')) }), 'four at the start');
    my @starts = map { $brood->sh("new-$_" => 'true')->{start} } 1 .. 2;
    is("@starts", "$SPARE $SPARE", 'new namespaces take one each');
    ok(until_true(5, sub { 6 == (() = $brood->pids('zygote')) }), 'and four are there again');
    my $spare = holders($brood)->{''}[0];
    kill KILL => $spare;
    ok(is_gone($brood, $spare) && until_true(5, sub { 6 == (() = $brood->pids('zygote')) }), 'one that dies is replaced');
    $brood->stop;
    $brood = Brood->start('namespaces-spares' => 0);
    $brood->sh(first => 'true'); # has the one that proved at the start that one can be had
    my $r = $brood->sh(alice => 'echo hi');
    is_deeply([@$r{qw(stdout start)}], ["hi\n", $COLD], 'without a pool it is slower but no error');
    is($brood->sh(alice => 'echo hi')->{start}, $WARM, 'and warm after it');
    $brood->stop;
};

subtest '100 never-seen namespaces at once' => sub {
    my $brood = Brood->start;
    my $begin = time;
    my @conns = map { $brood->post("never-$_" => "cat /proc/sys/kernel/hostname; echo x > x; ls") } 1 .. 100;
    my @r = map { $brood->result($_) } @conns;
    my $took = time - $begin;
    is(scalar(grep { $_->{http} == 200 } @r), 100, 'all answered');
    is(join('', map { $_->{stdout} } @r), join('', map { "never-$_\nx\n" } 1 .. 100), 'each in its own');
    cmp_ok($took, '<', 10, sprintf 'in %.2f s', $took);
    my %starts;
    $starts{$_->{start}}++ for @r;
    ok(!$starts{warm}, join ', ', map { "$starts{$_} $_" } sort keys %starts);
    my @volumes = grep { /^never-/ } $brood->volumes;
    is(scalar @volumes, 100, 'a directory for each');
    ok(until_true(10, sub { 108 == (() = $brood->pids('zygote')) }), 'and the pool is full again');
    my %uid = map { $_->{uid} => 1 } grep { $_->{role} eq 'zygote' } $brood->processes;
    is(scalar keys %uid, 108, 'no two zygotes share a uid');
    my ($code, $list) = cli($brood, 'ns', 'list');
    is(scalar(() = $list =~ /^never-\d+\s+active\b/mg), 100, 'ns list has them all, active');
    $brood->stop;
};

subtest 'on disk' => sub {
    my $brood = Brood->start;
    $brood->sh(alice => 'echo x > file; mkdir -p dir/sub; ln -s file link; mkfifo fifo; umask 0; echo y > dir/open; chmod 6777 dir/open; sleep 0.01 > dir/sub/.hidden');
    my @stat = stat $brood->{fs_root};
    is_deeply([$stat[4], $stat[5], $stat[2] & 07777], [0, 0, 0700], 'fs_root belongs to root, for root alone');
    my @wrong;
    File::Find::find({no_chdir => 1, wanted => sub { my @s = lstat; push @wrong, "$File::Find::name $s[4]:$s[5]" unless $s[4] == 1000 && $s[5] == 1000 }}, "$brood->{fs_root}/alice");
    is("@wrong", '', 'everything of a namespace belongs to 1000:1000');
    @stat = stat "$brood->{fs_root}/alice";
    is($stat[2] & 07777, 0700, 'its directory is closed to others');
    my $uid = $brood->sh(alice => 'stat -c %u:%g . file dir/open')->{stdout};
    is($uid, "1000:1000\n" x 3, 'inside it is the same number');
    my ($zygote) = grep { $_->{pid} == $brood->zygote_of('alice') } $brood->processes;
    cmp_ok($zygote->{uid}, '>', 1_000_000, 'although the processes are someone else on the host');
    # The directory is the registry: what an operator restores is there, what is no directory is not a namespace.
    mkdir "$brood->{fs_root}/restored";
    spew("$brood->{fs_root}/restored/old", "old\n");
    chown 1000, 1000, "$brood->{fs_root}/restored", "$brood->{fs_root}/restored/old";
    is($brood->sh(restored => 'cat old; echo new >> old; cat old')->{stdout}, "old\nold\nnew\n", 'a directory that was put there is a namespace');
    symlink '/etc', "$brood->{fs_root}/linked";
    spew("$brood->{fs_root}/plain", 'x');
    for my $name (qw(linked plain)) {
        my ($status, $json) = $brood->execute({namespace_id => $name, cmd => 'ls'});
        cmp_ok($status, '>=', 500, "a $name entry is no namespace: $status");
    }
    is($brood->sh(alice => 'cat file')->{stdout}, "x\n", 'the others work');
    unlink map { "$brood->{fs_root}/$_" } qw(linked plain);
    $brood->stop;
};

subtest 'ns rm' => sub {
    my $brood = Brood->start('namespaces-idle' => '300ms', 'namespaces-spares' => 1);
    my $zygote = $brood->zygote_of('alice');
    $brood->sh(alice => 'mkdir -p a/b/c; touch a/b/c/{1..500}; chmod 0 a/b/c; mkdir -m 0 sealed; echo x > "$(printf "odd\nname")"');
    is((cli($brood, 'ns', 'rm', 'alice'))[0], 0, 'an active namespace is removed');
    ok(is_gone($brood, $zygote), 'its zygote is gone');
    ok(!-e "$brood->{fs_root}/alice", 'its directory, too, at once');
    ok(until_true(10, sub { !grep { /^\.(?:trash|new)/ } $brood->volumes }), 'and soon all of its files');
    is($brood->sh(alice => 'ls -A')->{stdout}, '', 'it comes again empty');
    $zygote = $brood->zygote_of('alice');
    $brood->sh(alice => 'touch again');
    ok(is_gone($brood, $zygote), 'without a zygote');
    is((cli($brood, 'ns', 'rm', 'alice'))[0], 0, 'it is removed as well');
    ok(!-e "$brood->{fs_root}/alice", 'from disk');
    isnt((cli($brood, 'ns', 'rm', $_))[0], 0, "ns rm $_ is refused") for 'alice', '.lock', '../etc', '.';
    ok(-e "$brood->{fs_root}/.lock", 'and harms nothing');
    # A removal in the middle of traffic: each run finds either all or nothing of it.
    my @conns = map { $brood->post(busy => 'ls | wc -l; touch f; sleep 0.02') } 1 .. 20;
    my $tries = 0;
    until_true(10, sub { $tries++; (cli($brood, 'ns', 'rm', 'busy'))[0] == 0 });
    my @out = map { $brood->result($_) } @conns;
    is(scalar(grep { $_->{http} == 200 && $_->{stdout} =~ /^[01]\n$/ } @out), 20, "removed after $tries tries while 20 runs came and went");
    $brood->stop;
};

done_testing;
