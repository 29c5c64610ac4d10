// The object behind pith_session.
#pragma once
#include "api/model.h"
#include "session/session.h"

struct pith_session {
    explicit pith_session(const pith_model* m) : model(pith::retain(m)) {}

    pith_model* model;
    pith::Session sequence;
    pith::BackendBytes bytes{};  // counted as held
};
