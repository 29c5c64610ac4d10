// Steps that look at the distribution as a whole.
#include <math.h>

#include "sample/candidates.h"
#include "sample/select.h"

namespace pith {
namespace {

constexpr double kLn2 = 0.69314718055994530942;

// The sum of weight * ln(weight).
double entropy_sum(const Candidate* list, size_t size, Weigher weigher, double scale) {
    double sum = 0;
    for (size_t i = 0; i < size; i++) {
        const double weight = static_cast<double>(weigh(weigher, list[i].logit));
        if (weight > 0) sum += weight * (static_cast<double>(list[i].logit) - static_cast<double>(weigher.largest)) * scale;
    }
    return sum;
}

}  // namespace

// p >= a * (the largest p)^2, where the largest p is one over the mass.
void Candidates::keep_above_square(float a) {
    materialise();
    if (empty()) return;
    const double mass =
        row_ ? scan_.sum_weights(row_, size_, weigher(), scratch_.blocks.data()) : mass_of(scratch_.list.data(), size_, weigher());
    keep_power(log(static_cast<double>(a) / mass));
}

// By the distance of each one's surprise to the mean surprise, the nearest first.
void Candidates::keep_typical(float mass) {
    list_all();
    if (size_ < 2) return;
    const Weigher weigher = this->weigher();
    Candidate* list = scratch_.list.data();
    const double all = mass_of(list, size_, weigher), mean = entropy_sum(list, size_, weigher, scale_) / all;
    const auto comes_before = [=, this](const Candidate& a, const Candidate& b) {
        const double da = fabs(power_of(a.logit) - mean), db = fabs(power_of(b.logit) - mean);
        return da != db ? da < db : ranks_before(a, b);
    };
    const double target = nextafter(all * static_cast<double>(mass), HUGE_VAL);
    by_id_ = false;
    size_ = std::max<size_t>(select_mass(list, size_, target, comes_before, weigher), 1);
    find_largest_again();
}

void Candidates::keep_head(float z) {
    list_all();
    if (size_ <= 2) return;
    Candidate* list = scratch_.list.data();
    by_id_ = false;
    std::sort(list, list + size_, ranks_before);
    double mass = 0;
    const auto weight = [&](size_t i) { return exp(power_of(list[i].logit)); };
    for (size_t i = 0; i < size_; i++) mass += weight(i);
    // The second differences, added up twice: for their sum, and until the share of it is passed.
    const auto walk = [&](double most, double* sum) {
        *sum = 0;
        double a = weight(0), b = weight(1), slope = a - b;
        for (size_t i = 2; i < size_; i++) {
            a = b;
            b = weight(i);
            const double next = a - b;
            *sum += fabs(slope - next) / mass;
            slope = next;
            if (*sum > most) return i - 2;
        }
        return size_;
    };
    double total = 0, reached = 0;
    (void)walk(HUGE_VAL, &total);
    const double share = static_cast<double>(z);
    if (total <= 1e-6) {  // all the same: taken for equal
        const double each = static_cast<double>(size_ - 2);
        size_ = std::min(size_, std::max<size_t>(static_cast<size_t>(share * each), 1));
        return;
    }
    size_ = std::max<size_t>(walk(share * total, &reached), 1);
}

void Candidates::keep_sigmas(float n) {
    materialise();
    if (empty()) return;
    double variance = 0;
    if (row_) {
        const Moments about = scan_.moments(row_, size_, largest_);
        const double mean = about.sum / about.count;
        const float shift = static_cast<float>(static_cast<double>(largest_) + mean);
        const Moments m = scan_.moments(row_, size_, shift);
        variance = m.squares / m.count - (m.sum / m.count) * (m.sum / m.count);
    } else {
        double sum = 0, squares = 0;
        const double count = static_cast<double>(size_);
        const Candidate* list = scratch_.list.data();
        for (size_t i = 0; i < size_; i++) sum += static_cast<double>(list[i].logit) - static_cast<double>(largest_);
        const double mean = static_cast<double>(largest_) + sum / count;
        for (size_t i = 0; i < size_; i++) {
            const double d = static_cast<double>(list[i].logit) - mean;
            squares += d * d;
        }
        variance = squares / count;
    }
    if (!(variance < HUGE_VAL)) return;  // beyond what floats can say: nothing is that far away
    keep_power(-static_cast<double>(n) * sqrt(std::max(variance, 0.0)) * scale_);
}

void Candidates::exclude_top(float threshold, const TokenSet* exempt) {
    list_all();
    if (size_ < 2) return;
    Candidate* list = scratch_.list.data();
    const double mass = mass_of(list, size_, weigher());
    const float bound = bound_at(log(mass * static_cast<double>(threshold)));
    const auto tops = [&](const Candidate& c) { return c.logit > bound && !(exempt && exempt->holds(c.token)); };
    const Candidate* last = nullptr;  // the least likely of them
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < size_; i++) {
        if (!tops(list[i])) continue;
        count++;
        if (!last || ranks_before(*last, list[i])) last = list + i;
    }
    if (count < 2) return;
    const int32_t stays = last->token;
    for (size_t i = 0; i < size_; i++)
        if (!tops(list[i]) || list[i].token == stays) list[kept++] = list[i];
    size_ = kept;
    find_largest_again();
}

void Candidates::keep_surprise(double most) {
    materialise();
    if (empty()) return;
    const double mass =
        row_ ? scan_.sum_weights(row_, size_, weigher(), scratch_.blocks.data()) : mass_of(scratch_.list.data(), size_, weigher());
    const double power = log(mass) - most * kLn2;
    power > 0 ? keep_largest() : keep_power(power);
}

void Candidates::keep_estimate(double mu, uint32_t m, size_t vocabulary) {
    materialise();
    if (empty()) return;
    const float* row = row_;
    const size_t n = size_;
    Candidate* list = scratch_.list.data();
    if (row_) list_top(m);
    const size_t count = std::min<size_t>(row ? size_ : select_top(list, size_, m), m);
    by_id_ = false;
    std::sort(list, list + count, ranks_before);
    double products = 0, squares = 0;
    for (size_t i = 0; i + 1 < count; i++) {
        const double t = log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
        const double b = (static_cast<double>(list[i].logit) - static_cast<double>(list[i + 1].logit)) * scale_;
        products += t * b;
        squares += t * t;
    }
    if (row) {
        row_ = row;
        size_ = n;
    }
    if (count < 2) return;
    const double exponent = products / squares, excess = exponent - 1;  // of the law that the likeliest follow, rank^-exponent
    const double spread =
        fabs(excess) < 1e-9 ? 1 / log(static_cast<double>(vocabulary)) : excess / (1 - pow(static_cast<double>(vocabulary), -excess));
    const double k = pow(spread * exp(mu * kLn2), 1 / exponent);
    keep_top(k >= static_cast<double>(UINT32_MAX) || isnan(k) ? UINT32_MAX : k < 1 ? 1 : static_cast<uint32_t>(k));
}

void Candidates::heat_by_entropy(float least, float most, float exponent) {
    materialise();
    if (empty()) return;
    const Weigher weigher = this->weigher();
    double mass = 0, sum = 0, count = 0;
    if (row_) {
        mass = scan_.sum_weights(row_, size_, weigher, scratch_.blocks.data());
        sum = scan_.sum_entropy(row_, size_, weigher);
        count = scan_.moments(row_, size_, largest_).count;
    } else {
        mass = mass_of(scratch_.list.data(), size_, weigher);
        sum = entropy_sum(scratch_.list.data(), size_, weigher, scale_);
        count = static_cast<double>(size_);
    }
    if (count < 2) return;
    const double entropy = std::clamp((log(mass) - sum / mass) / log(count), 0.0, 1.0);
    const double from = static_cast<double>(least), to = static_cast<double>(most);
    const double temperature = from + (to - from) * pow(entropy, static_cast<double>(exponent));
    temperature > 0 ? heat(temperature) : keep_largest();
}

void Candidates::smooth(float factor) {
    materialise();
    if (empty()) return;
    const double by = static_cast<double>(factor) * scale_, largest = static_cast<double>(largest_);
    const auto moved = [=](float logit) {
        const double d = static_cast<double>(logit) - largest;
        return static_cast<float>(std::max(largest - by * d * d, -static_cast<double>(std::numeric_limits<float>::max())));
    };
    if (!row_) {
        for (size_t i = 0; i < size_; i++) scratch_.list[i].logit = moved(scratch_.list[i].logit);
        return;
    }
    float* row = scratch_.logits.data();
    for (size_t i = 0; i < size_; i++) row[i] = row_[i] == -std::numeric_limits<float>::infinity() ? row_[i] : moved(row_[i]);
    summarise(row);
}

}  // namespace pith
