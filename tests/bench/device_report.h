// What the GPU bench prints: a line a measurement as it comes, what was to be reached beside what was, and the same as JSON.
#pragma once
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "device_run.h"

namespace bench {

class Report {
public:
    // With `json` that goes to the standard output, and the text to the error output: what a run that is stopped has measured is not lost.
    explicit Report(bool json) : json_(json), out_(json ? stderr : stdout) {}

    // A remark on its own line: device, memory, ceilings.
    __attribute__((format(printf, 2, 3))) void note(const char* format, ...) {
        char text[512];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        notes_.push_back(text);
        std::fprintf(out_, "%s\n", text);
        headed_ = false;
        std::fflush(out_);
    }
    // `ratio` is to the ceiling; 0: there is none.
    void timing(const std::string& model, const std::string& what, const Timing& t, double ratio) {
        lines_.push_back({model, what, t, ratio});
        if (!headed_)
            std::fprintf(out_, "%-14s %-34s %9s %10s %8s %8s %8s %9s %7s\n", "", "", "ms", "tokens/s", "GB/s", "TFLOP/s", "ceiling",
                         "CPU ms", "core");
        headed_ = true;
        std::fprintf(out_, "%-14s %-34s %9.3f %10.2f %8.1f %8.2f %8s %9.4f %7s\n", model.c_str(), what.c_str(), t.ms, t.tokens_per_s(),
                     t.gb_per_s(), t.tflop_per_s(), percent(ratio).c_str(), t.cpu_ms, percent(t.core_share()).c_str());
        std::fflush(out_);
    }
    // What is to be reached. `value` 0: not measured. Shares are given and printed in percent.
    void target(const std::string& what, const char* unit, double value, double must, double goal, bool at_most = false) {
        targets_.push_back({what, unit, value, must, goal, at_most});
    }
    void failure(const std::string& what, const std::string& message) {
        note("FAILED %s: %s", what.c_str(), message.c_str());
        failures_++;
    }
    size_t failures() const { return failures_; }

    void finish() const {
        print_targets();
        if (json_) print_json();
    }

private:
    struct Line {
        std::string model, what;
        Timing timing;
        double ratio;
    };
    struct Target {
        std::string what, unit;
        double value, must, goal;
        bool at_most;
        bool reaches(double bound) const { return value != 0 && (at_most ? value <= bound : value >= bound); }
        const char* verdict() const { return value == 0 ? "not measured" : reaches(goal) ? "goal" : reaches(must) ? "must" : "MISSED"; }
    };
    static std::string percent(double share) {
        char text[32];
        std::snprintf(text, sizeof text, share ? "%.1f %%" : "-", share * 100);
        return text;
    }
    static std::string escaped(const std::string& text) {
        std::string out;
        for (const char c : text) {
            if (c == '"' || c == '\\') out += '\\';
            out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        }
        return out;
    }

    void print_targets() const {
        if (targets_.empty()) return;
        std::fprintf(out_, "\n%-64s %10s %9s %9s\n", "", "measured", "must", "goal");
        for (const Target& t : targets_)
            std::fprintf(out_, "%-64s %10.1f %s%7.0f %s%7.0f  %-4s %s\n", t.what.c_str(), t.value, t.at_most ? "<=" : ">=", t.must,
                         t.at_most ? "<=" : ">=", t.goal, t.unit.c_str(), t.verdict());
    }
    void print_json() const {
        std::printf("{\n  \"notes\": [");
        for (size_t i = 0; i < notes_.size(); i++) std::printf("%s\n    \"%s\"", i ? "," : "", escaped(notes_[i]).c_str());
        std::printf("\n  ],\n  \"timings\": [");
        for (size_t i = 0; i < lines_.size(); i++) {
            const Line& l = lines_[i];
            std::printf(
                "%s\n    {\"model\": \"%s\", \"what\": \"%s\", \"ms\": %.6f, \"tokens_per_s\": %.3f, \"gb_per_s\": %.3f, "
                "\"tflop_per_s\": %.4f, \"ceiling_ratio\": %.5f, \"cpu_s_per_step\": %.9f, \"core_share\": %.5f}",
                i ? "," : "", l.model.c_str(), l.what.c_str(), l.timing.ms, l.timing.tokens_per_s(), l.timing.gb_per_s(),
                l.timing.tflop_per_s(), l.ratio, l.timing.cpu_ms * 1e-3, l.timing.core_share());
        }
        std::printf("\n  ],\n  \"targets\": [");
        for (size_t i = 0; i < targets_.size(); i++) {
            const Target& t = targets_[i];
            std::printf(
                "%s\n    {\"what\": \"%s\", \"unit\": \"%s\", \"measured\": %.4f, \"must\": %g, \"goal\": %g, \"at_most\": %s, "
                "\"verdict\": \"%s\"}",
                i ? "," : "", escaped(t.what).c_str(), t.unit.c_str(), t.value, t.must, t.goal, t.at_most ? "true" : "false", t.verdict());
        }
        std::printf("\n  ]\n}\n");
    }

    bool json_, headed_ = false;
    std::FILE* out_;
    size_t failures_ = 0;
    std::vector<std::string> notes_;
    std::vector<Line> lines_;
    std::vector<Target> targets_;
};

}  // namespace bench
