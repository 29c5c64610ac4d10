// What tokens are charged whose CPU time is not measured.
#include "catch.h"
#include "usage/account.h"

using pith::Steady;

TEST_CASE("a token in five milliseconds is measured, the others are charged what it used") {
    Steady steady;
    REQUIRE(steady.due());
    steady.measured(7000000);  // the first is cold
    REQUIRE(steady.due());
    steady.measured(800000);
    uint64_t charged = 0;
    int calls = 0;
    for (; !steady.due(); calls++) charged += steady.charge(1000000);  // waits a fifth of its time
    CHECK(calls == 5);
    CHECK(charged == 5 * uint64_t{800000});
    steady.measured(1200000);
    CHECK(!steady.due());
    CHECK(steady.charge(3000000) == 900000);  // held up: three parts before, one part now
    CHECK(steady.charge(2000000) == 900000);
    CHECK(steady.due());
}

TEST_CASE("a token is never charged more than it took, and long ones are all measured") {
    Steady steady;
    steady.measured(900000);
    steady.measured(900000);
    CHECK(steady.charge(800000) == 800000);
    CHECK(steady.charge(1500000) == 1000000);  // with what the first left over
    CHECK(steady.charge(1500000) == 900000);
    for (int i = 0; i < 9; i++) CHECK(steady.charge(100000) == 100000);
    CHECK(steady.charge(9000000) == 5 * 900000);  // what is left over is four tokens' at most
    steady.measured(40000000);
    CHECK(!steady.due());
    steady.charge(40000000);
    CHECK(steady.due());
}
