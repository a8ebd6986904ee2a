# SPDX-License-Identifier: Apache-2.0
# Runs of one namespace happen in the order of their acceptance and one at a time; different namespaces
# never wait for each other; a queue is bounded in length and in time.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

subtest '100 at once to one namespace' => sub {
    my $brood = Brood->start('runs-queue-max' => 200, 'runs-max-wait' => '60s', tcp => 1);
    for my $via (qw(unix tcp)) {
        my $ns = "order-$via";
        my @conns = map { $brood->post($ns => "mkdir lock || echo overlap >> order; echo $_ >> order; echo $_; rmdir lock", via => $via) } 1 .. 100;
        my @r = map { $brood->result($_) } @conns;
        is(scalar(grep { $_->{http} == 200 && $_->{exit_code} == 0 } @r), 100, "$via: all answered");
        is(join('', map { $_->{stdout} } @r), join('', map { "$_\n" } 1 .. 100), 'each got its own answer');
        my $order = $brood->sh($ns => 'cat order')->{stdout};
        unlike($order, qr/overlap/, 'never two at a time');
        is($order, join('', map { "$_\n" } 1 .. 100), 'in the order of sending');
        my %seen = map { $_->{run_id} => 1 } @r;
        is(scalar(keys %seen), 100, 'each with a run id of its own');
        cmp_ok($r[-1]{queue_ms}, '>', $r[0]{queue_ms}, 'the last one waited longer than the first');
    }
    $brood->stop;
};

subtest '100 namespaces at once' => sub {
    my $brood = Brood->start;
    my $begin = time;
    my @conns = map { $brood->post("many-$_" => "sleep 1; echo $_") } 1 .. 100;
    my @r = map { $brood->result($_) } @conns;
    my $took = time - $begin;
    is(scalar(grep { $_->{http} == 200 } @r), 100, 'all answered');
    is(join('', map { $_->{stdout} } @r), join('', map { "$_\n" } 1 .. 100), 'each with its own');
    cmp_ok($took, '<', 8, sprintf 'none waited for another (%.1f s)', $took);
    $brood->stop;
};

subtest 'a full queue' => sub {
    my $brood = Brood->start('runs-queue-max' => 3);
    my $first = $brood->post(full => 'touch started; sleep 1.5; echo first');
    ok($brood->wait_file('started'), 'one run is running');
    my @waiting = map { $brood->post(full => "touch ran-$_; echo $_") } 1 .. 3;
    my ($refused, $headers);
    until_true(1, sub {
        (my $status, $refused, $headers) = $brood->execute({namespace_id => 'full', cmd => 'touch refused'});
        $status == 503;
    });
    like($headers->{'retry-after'} // '', qr/^[1-9]\d*$/, 'the next one is refused with Retry-After');
    is(ref $refused->{error}, 'HASH', 'and an error body');
    is($refused->{error}{code}, 'queue_full', 'that says queue_full');
    is($brood->sh(other => 'echo here')->{stdout}, "here\n", 'another namespace does not notice');
    is($brood->result($first)->{stdout}, "first\n", 'the running one ends well');
    is(join('', map { $brood->result($_)->{stdout} } @waiting), "1\n2\n3\n", 'the waiting ones follow');
    is($brood->sh(full => 'ls')->{stdout}, "ran-1\nran-2\nran-3\nstarted\n", 'the refused one never ran');
    $brood->stop;
};

subtest 'max_wait' => sub {
    my $brood = Brood->start('runs-max-wait' => '300ms');
    my $first = $brood->post(slow => 'touch started; sleep 1.5; echo first');
    $brood->wait_file('started');
    my $begin = time;
    my ($status, $json, $headers) = $brood->execute({namespace_id => 'slow', cmd => 'touch too-late'});
    my $took = time - $begin;
    is($status, 503, 'a run that waited too long is 503');
    like($headers->{'retry-after'} // '', qr/^[1-9]\d*$/, 'with Retry-After');
    is($json->{error}{code}, 'queue_timeout', 'that says queue_timeout');
    cmp_ok($took, '>', 0.25, 'not before max_wait');
    cmp_ok($took, '<', 1.2, 'and not when the slow one ended');
    my @times = map { my $at = time; $brood->sh(quick => 'true'); time - $at } 1 .. 20;
    cmp_ok(median(@times), '<', 0.1, 'a slow namespace does not delay another');
    is($brood->result($first)->{stdout}, "first\n", 'the slow one ends well');
    is($brood->sh(slow => 'ls')->{stdout}, "started\n", 'what waited too long never ran');
    $brood->stop;
};

done_testing;
