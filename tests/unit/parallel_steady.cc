// What tokens are charged whose CPU time is not measured.
#include "catch.h"
#include "usage/account.h"

using pith::Steady;

TEST_CASE("a token in ten milliseconds is measured, the others are charged the same share of their time") {
    Steady steady;
    REQUIRE(steady.due());
    steady.measured(7000000, 9000000);  // the first is cold
    REQUIRE(steady.due());
    steady.measured(800000, 1000000);
    uint64_t charged = 0;
    int calls = 0;
    for (; !steady.due(); calls++) charged += steady.charge(1000000);  // waits a fifth of its time
    CHECK(calls == 10);
    CHECK(charged == 10 * uint64_t{800000});
    steady.measured(1200000, 1400000);
    CHECK(!steady.due());
    CHECK(steady.charge(1100000) == 900000);  // three parts before, one part now
    CHECK(steady.charge(550000) == 450000);
    CHECK(steady.charge(9000000) == 900000);  // held up
    CHECK(steady.due());
}

TEST_CASE("a measured token that was held up counts for nothing, but two in a row are the new measure") {
    Steady steady;
    steady.measured(1, 1);
    steady.measured(800000, 1000000);
    steady.measured(800000, 5000000);
    CHECK(steady.charge(1000000) == 800000);
    steady.measured(4000000, 5000000);
    CHECK(steady.charge(2000000) == 1600000);  // a quarter of both
    CHECK(steady.charge(5000000) == 1600000);
}

TEST_CASE("long tokens are all measured, and none is charged more than it took") {
    Steady steady;
    steady.measured(40000000, 40000000);
    steady.measured(40000000, 40000000);
    CHECK(steady.charge(39000000) == 39000000);
    CHECK(steady.due());
    CHECK(steady.charge(0) == 0);
}
