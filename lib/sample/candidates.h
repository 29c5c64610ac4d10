// What a sampler's steps work on: the tokens that may still be drawn, and what each weighs.
#pragma once
#include "base/array.h"
#include "sample/four.h"
#include "sample/steps.h"

namespace pith {

// A change to the logits of a few tokens of a row, not carried out until a token is looked at.
struct Edit {
    const Step* step;
    double scale;  // of the temperatures before it
    bool raises;   // else it only lowers
};

// Memory for one draw, made once.
struct Scratch {
    explicit Scratch(const Allocator& allocator)
        : list(allocator), logits(allocator), maxima(allocator), blocks(allocator), edits(allocator) {}
    Array<Candidate> list;  // as long as the steps may need
    Array<float> logits;    // the whole row, if steps may have to change it
    Array<float> maxima;
    Array<double> blocks;
    Array<Edit> edits;  // one a step
};

struct Draw {
    int32_t token;
    float logit;
    double log_probability;  // among the candidates
};

// A row of logits, until a step takes tokens away; then a list. Logits are kept as they came; the scale is what temperatures made of it,
// so that a temperature costs no pass. Steps that change a few logits cost no pass either: what they do is looked up for the tokens that
// come into question.
class Candidates {
public:
    // n logits without NaN or +inf, of which scratch.maxima has the maxima and `largest` the largest, finite.
    Candidates(Scratch& scratch, const ScanTable& scan, const float* row, size_t n, float largest)
        : scratch_(scratch), scan_(scan), row_(row), size_(n), largest_(largest), highest_(largest) {}

    void heat(double temperature);
    void keep_largest();  // the first of equals
    void keep_top(uint32_t k);
    void keep_mass(float p);
    void keep_relative(float p);
    void keep_above_square(float a);  // top-a
    void keep_typical(float mass);
    void keep_head(float z);  // tail-free
    void keep_sigmas(float n);
    void exclude_top(float threshold, const TokenSet* exempt);     // XTC
    void keep_surprise(double most);                               // mirostat 2
    void keep_estimate(double mu, uint32_t m, size_t vocabulary);  // mirostat 1
    void heat_by_entropy(float least, float most, float exponent);
    void smooth(float factor);
    void skew(float by) { skew_ += static_cast<double>(by); }
    // Penalties, DRY, bias or bans, whose tallies are up to date.
    void edit(const Step& step);
    void allow(const TokenSet& tokens);

    // u in [0, 1): the first id at which the weights, summed up by id, pass u times all of them. By rank instead, if skewed.
    Draw draw(double u);
    // The most likely, at most `count`, in order, with log-probabilities among all candidates, and what all of them weigh. Ends what the
    // steps work on.
    size_t best(size_t count, double* mass, pith_logprob* to);
    // Carries out what was put off. False: nothing is left.
    bool settle() {
        materialise();
        return size_ != 0;
    }

    bool empty() const { return size_ == 0; }
    size_t size() const { return size_; }

    // The most a list for these steps may need, for rows of n.
    static size_t list_for_top(size_t k, size_t n) { return (2 * k < n ? 2 * k : n) + 2 * kScanBlock; }
    static size_t list_for_all(size_t n) { return n + kScanBlock; }

private:
    Weigher weigher() const { return {largest_, static_cast<float>(scale_)}; }
    double power_of(float logit) const { return (static_cast<double>(logit) - static_cast<double>(largest_)) * scale_; }
    float bound_at(double power) const;
    void keep_power(double power);
    Draw drawn(const Candidate& candidate, double mass) const;
    Draw draw_from_list(double u);
    Draw draw_from_row(double u);
    size_t select_by_id(double mass);

    float changed(const Edit& edit, int32_t token, float logit) const;
    float edited(int32_t token, float logit) const;
    bool raised_by(size_t edits, int32_t token) const;
    template <class Visit>
    void each_raised(Visit visit) const;
    bool plain() const { return scratch_.edits.empty(); }
    void materialise();
    void summarise(float* row);
    float bound_for(size_t ranks) const;
    size_t list_row(float bound, size_t k);
    void list_top(size_t k);
    size_t shorten(size_t size, size_t k);
    void list_all();
    void find_largest_again();

    Scratch& scratch_;
    const ScanTable& scan_;
    const float* row_;  // NULL: the list counts
    size_t size_;       // of the row or of the list
    double scale_ = 1, skew_ = 0;
    bool by_id_ = false;  // the list is in ascending order of ids
    float largest_;       // among the candidates; with edits to a row, not known before the row is listed
    float highest_;       // of the row, without its edits
};

}  // namespace pith
