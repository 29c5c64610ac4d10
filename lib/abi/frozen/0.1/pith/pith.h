/** @file pith.h
 *  @brief All of the C API. */
#ifndef PITH_H
#define PITH_H
#include <pith/base.h>
#include <pith/env.h>
#include <pith/model.h>
#include <pith/sampler.h>
#include <pith/session.h>
#include <pith/tokenizer.h>
#endif
