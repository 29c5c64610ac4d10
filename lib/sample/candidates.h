// What a sampler's steps work on: the tokens that may still be drawn, and what each weighs.
#pragma once
#include "base/array.h"
#include "sample/penalties.h"
#include "sample/scan.h"

namespace pith {

struct Candidate {
    float logit;
    int32_t token;
};

// Memory for one draw, made once.
struct Scratch {
    explicit Scratch(const Allocator& allocator) : list(allocator), logits(allocator), blocks(allocator), tally(allocator) {}
    Array<Candidate> list;  // as long as the steps may need
    Array<float> logits;    // the whole row, if penalties may have to change it
    Array<double> blocks;
    Tally tally;
};

// A row of logits, until a step takes tokens away; then a list. Logits are kept as they came; the scale is what temperatures made of it,
// so that a temperature costs no pass.
class Candidates {
public:
    // `largest` is the row's, finite; n logits without NaN or +inf.
    Candidates(Scratch& scratch, const float* row, size_t n, Largest largest)
        : scratch_(scratch), row_(row), size_(n), largest_(largest.value), first_(largest.index) {}

    void heat(float temperature);
    void keep_largest();  // the first of equals
    void keep_top(uint32_t k);
    void keep_mass(float p);
    void keep_relative(float p);
    void penalise(const Penalty& penalty, const History& history);
    // u in [0, 1): the first id at which the weights, summed up by id, pass u times all of them.
    int32_t draw(double u);
    size_t size() const { return size_; }

    // The most a list for these steps may need, for rows of n.
    static size_t list_for_top(uint32_t k, size_t n);

private:
    Weigher weigher() const { return {largest_, static_cast<float>(scale_)}; }
    int32_t draw_from_list(double u);
    void list_above(float bound);
    void find_largest_again();
    float penalised(float logit, const Penalty& penalty, const Tally::Entry& entry) const;

    Scratch& scratch_;
    const float* row_;  // NULL: the list counts
    size_t size_;       // of the row or of the list
    double scale_ = 1;
    float largest_;  // among the candidates
    size_t first_;   // its place in the row; meaningless for a list
};

}  // namespace pith
