/* SPDX-License-Identifier: Apache-2.0 */
/* bench/series - samples into figures.
 *
 * A round gives every contender one batch; a batch is reduced to its p50 and p99 at once. A figure
 * is the median of these over all rounds (so a disturbed round weighs nothing), and its noise is
 * the lowest and highest value that a single round would have given.
 */
#include "bench/bench.h"
#include <math.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(const double *values, size_t len, double share)
{
    auto_free double *sorted = NULL;
    size_t rank = (size_t)ceil(share * (double)len);

    if (!len)
        return NAN;
    sorted = calloc(len, sizeof *sorted);
    if (!sorted)
        die(1, "no memory for %zu samples", len);
    memcpy(sorted, values, len * sizeof *sorted);
    qsort(sorted, len, sizeof *sorted, compare);
    return sorted[rank ? rank - 1 : 0];
}

double median(const double *values, size_t len)
{
    return quantile(values, len, 0.5);
}

void batch_add(struct batch *b, double us)
{
    if (b->len < BATCH_MAX)
        b->us[b->len++] = us;
}

void series_close_round(struct series *s, struct batch *b)
{
    if (s->rounds < ROUNDS_MAX && b->len) {
        s->p50[s->rounds] = median(b->us, b->len);
        s->p99[s->rounds] = quantile(b->us, b->len, 0.99);
        s->rounds++;
    }
    b->len = 0;
}

void figure_spread(struct figure *ret, const double *values, size_t rounds)
{
    ret->value = median(values, rounds);
    ret->low = quantile(values, rounds, 0);
    ret->high = quantile(values, rounds, 1);
}

void figure_ratio(struct figure *ret, const double *over, const double *under, size_t rounds)
{
    double ratios[ROUNDS_MAX];

    if (rounds > ROUNDS_MAX)
        rounds = ROUNDS_MAX;
    for (size_t i = 0; i < rounds; i++)
        ratios[i] = over[i] / under[i];
    figure_spread(ret, ratios, rounds);
    ret->value = median(over, rounds) / median(under, rounds);
}

bool figure_is_met(const struct figure *f)
{
    if (f->skipped[0])
        return false;
    return f->at_least ? f->value >= f->bar : f->value <= f->bar;
}

static const char *verdict(const struct figure *f)
{
    bool stretch = f->at_least ? f->value >= f->stretch : f->value <= f->stretch;

    if (!figure_is_met(f))
        return "NO";
    return f->stretch > 0 && stretch ? "yes, and the stretch goal" : "yes";
}

void figures_print(const struct figure *f, size_t count)
{
    char bar[48];

    printf("\n%-24s %9s   %-21s %-16s %s\n", "figure", "value", "noise (rounds)", "bar [stretch]",
           "met");
    for (size_t i = 0; i < count; i++) {
        const char *sign = f[i].at_least ? ">=" : "<=";
        if (f[i].stretch > 0)
            (void)snprintf(bar, sizeof bar, "%s %g [%g]", sign, f[i].bar, f[i].stretch);
        else
            (void)snprintf(bar, sizeof bar, "%s %g", sign, f[i].bar);
        if (f[i].skipped[0])
            printf("%-24s %9s   %-21s %-16s skipped: %s\n", f[i].name, "-", "", bar, f[i].skipped);
        else
            printf("%-24s %9.3f   %9.3f..%-10.3f %-16s %s\n", f[i].name, f[i].value, f[i].low,
                   f[i].high, bar, verdict(&f[i]));
    }
    printf("\n");
    for (size_t i = 0; i < count; i++) {
        if (f[i].skipped[0])
            printf("%s skipped\n", f[i].name);
        else
            printf("%s %.3f\n", f[i].name, f[i].value);
    }
}
